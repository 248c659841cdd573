"""Who was kept from giving a sign of life, and since when: only such a worker may be given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.faults.scene import HASTY

#: Seconds without a sign of life after which a worker of a scene is given up on.
LEASE = HASTY["WORKER_LOST_AFTER"]
#: Seconds of them in which it was kept from it. The rest is what lies between two signs, and
#: what it takes to connect again on a busy machine.
ENOUGH = LEASE / 2


class Silence(NamedTuple):
    """A time in which a worker was stopped, or could not reach the database."""

    worker: str
    #: By the clock that no one sets.
    since: float
    until: float


def was_silenced(silences: Iterable[Silence], worker: str, at: float) -> bool:
    """Return whether a worker could not help being given up on at that moment."""
    kept = (
        min(one.until, at) - max(one.since, at - LEASE)
        for one in silences
        if one.worker == worker
    )
    return sum(max(0.0, seconds) for seconds in kept) >= ENOUGH
