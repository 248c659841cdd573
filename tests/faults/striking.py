"""The pace of a scenario: something is done all the time, and something broken every so often."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.faults.nemesis import Nemesis


def strike_while(
    nemesis: Nemesis, *, faults: int, pace: float, calls: int, call: Callable[[], Any]
) -> None:
    """Make so many calls and so many faults, each evenly spread; ``pace`` seconds a fault."""
    began, called = time.monotonic(), 0
    while nemesis.struck < faults or called < calls:
        due = min(1.0, (time.monotonic() - began) / (pace * faults))
        while called < calls and called <= due * calls:
            call()
            called += 1
        nemesis.look_after()
        waits = nemesis.struck < faults and nemesis.struck <= due * faults
        time.sleep(0.2 if waits and not nemesis.strike() else 0.02)
