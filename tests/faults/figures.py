"""The figures of a run: one line per scenario, for the table in ``docs/guarantees.md``."""

from __future__ import annotations

import json
import os
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults.tiers import SEED, TIER

_began = time.monotonic()


def figure(row: str, **numbers: Any) -> None:
    """Keep what a scenario has shown; call it when all that it promises was seen to hold.

    ``unsteady`` is added where it failed first, and holds only now that it runs alone.
    """
    line = {
        "row": row,
        "tier": TIER,
        "seed": SEED,
        "commit": _commit(),
        "seconds": round(_seconds_of_this_test()),
        **numbers,
    }
    if os.environ.get("TASKCONTROL_TEST_AGAIN"):
        line["unsteady"] = True
    text = json.dumps(line)
    print(text)  # noqa: T201 - the result of the run
    path = os.environ.get("TASKCONTROL_FIGURES")
    if path:
        with Path(path).open("a") as file:
            file.write(text + "\n")


def begin() -> None:
    """Let the seconds of the next figures count from here."""
    global _began
    _began = time.monotonic()


def _seconds_of_this_test() -> float:
    return time.monotonic() - _began


@cache
def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()
