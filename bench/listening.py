"""Hears what PostgreSQL is asked: its log of statements, counted without their values."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

#: What introduces a statement in the log, and what differs between two of the same.
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")
VALUES = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b|\$\d+")
#: Not asked by the program: what switches the log, and what holds a transaction together.
NOT_COUNTED = ("ALTER SYSTEM", "SELECT PG_RELOAD_CONF", "BEGIN", "COMMIT", "ROLLBACK")


def statements(log: Path, offset: int) -> Counter[str]:
    """Count the statements that stand in the log from ``offset`` on."""
    with log.open(errors="replace") as file:
        file.seek(offset)
        said = STATEMENT.findall(file.read())
    return Counter(
        VALUES.sub("?", one)[:200]
        for one in said
        if not one.upper().startswith(NOT_COUNTED)
    )
