"""The pace of a scenario: something is done all the time, and something broken every so often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from taskcontrol.models import TaskLog
from tests.faults.nemesis import Nemesis
from tests.faults.scene import patiently

#: Tasks that may wait before the next call waits too: faults shall hit what runs, and a slow
#: machine shall not be left with all of the work when the last one is over.
MOST_WAITING = 100


def strike_while(
    nemesis: Nemesis, *, faults: int, pace: float, calls: int, call: Callable[[], Any]
) -> None:
    """Make so many calls and so many faults, evenly mixed, with ``pace`` seconds for a fault.

    Where the calls come late, so do the faults.
    """
    began, called, at_once = time.monotonic(), 0, max(1, calls // 100)
    while nemesis.struck < faults or called < calls:
        due = min(1.0, (time.monotonic() - began) / (pace * faults))
        if called < calls and called <= due * calls and _waiting() < MOST_WAITING:
            for _ in range(min(at_once, calls - called)):
                call()
                called += 1
        nemesis.look_after()
        wanted = faults * min(due, called / calls)
        rested = time.monotonic() - nemesis.last_at > pace / 2
        if nemesis.struck < min(faults, wanted) and rested:
            nemesis.strike()
        time.sleep(0.1)


def _waiting() -> int:
    return patiently(TaskLog.objects.unended().count)
