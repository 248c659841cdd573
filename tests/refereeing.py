"""The referee in tests: on for all that the program does, off for what a test makes up.

A test puts rows where it needs them, and makes them older; the program never does. So each
statement is judged by who wrote it: the nearest file on the stack that is ours. What a
worker or another process does, is always refereed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from taskcontrol import referee

HOME = Path(__file__).parent.parent
TABLE = "taskcontrol_tasklog"
#: Whoever stands nearest to the statement decides: the program, here with the shells that
#: Django calls for it, or a test.
THE_PROGRAM = (
    str(HOME / "taskcontrol"),
    "/django/core/handlers/",
    "/django/contrib/admin/",
)
#: Rooms that write what they are told; whoever tells them decides.
TOOLS = tuple(str(HOME / "taskcontrol" / name) for name in ("dialect.py", "prepared.py"))
THE_TESTS = (str(HOME / "tests"), str(HOME / "project"))
MARK = "The referee of taskcontrol"


def install() -> None:
    """Let the referee refuse what breaks a rule, where there can be one."""
    if referee.is_possible():
        referee.install(referee.Mode.RAISE)
        connection_created.connect(_watch)
        for connection in connections.all():
            _watch(connection)


def _watch(connection: Any, **_signal: Any) -> None:
    watched = connection.vendor == "postgresql"
    if watched and _let_tests_pass not in connection.execute_wrappers:
        connection.execute_wrappers.append(_let_tests_pass)


def _let_tests_pass(
    execute: Any,
    sql: Any,
    params: Any,
    many: bool,
    context: Any,
) -> Any:
    raw = context["connection"].connection
    if not _writes_tasks(str(sql)) or _is_broken(raw) or not _is_made_up():
        return execute(sql, params, many, context)
    with _off(raw):
        return execute(sql, params, many, context)


def _writes_tasks(sql: str) -> bool:
    return TABLE in sql and sql.lstrip()[:6].upper() in {"INSERT", "UPDATE", "DELETE"}


@contextmanager
def for_tests_too() -> Iterator[None]:
    """Let the referee judge what a test itself writes."""
    global _everybody
    _everybody = True
    try:
        yield
    finally:
        _everybody = False


_everybody = False


def _is_made_up() -> bool:
    """Return whether a test itself has written the statement that is executed."""
    if _everybody:
        return False
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file not in TOOLS and any(one in file for one in THE_PROGRAM):
            return False
        if file.startswith(THE_TESTS) and file != __file__:
            return True
        frame = frame.f_back
    return False


@contextmanager
def _off(raw: Any) -> Iterator[None]:
    """Past Django, which counts statements; after an error the rollback takes it back."""
    raw.execute("SET taskcontrol.referee = 'off'")
    try:
        yield
    finally:
        if not _is_broken(raw):
            raw.execute("SET taskcontrol.referee = 'on'")


def _is_broken(raw: Any) -> bool:
    return raw.closed or raw.info.transaction_status.name == "INERROR"


class Refusals:
    """What the referee has refused in any process, read in the log of the database."""

    def __init__(self, log: Path | None) -> None:
        self._log, self._read = log, 0
        self.new()

    def new(self) -> list[str]:
        """Return what was refused since the last call."""
        if self._log is None:
            return []
        with self._log.open(errors="replace") as file:
            file.seek(self._read)
            lines = [line.strip() for line in file if MARK in line]
            self._read = file.tell()
        return lines
