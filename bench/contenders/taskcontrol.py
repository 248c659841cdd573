"""taskcontrol as it comes: the row, and the bell after the commit."""

from __future__ import annotations

from collections.abc import Iterable

import taskcontrol
from bench import bodies


def enqueue(asked_at: float) -> None:
    """Ask for one."""
    taskcontrol.enqueue(bodies.noop, asked_at=asked_at)


def enqueue_many(times: Iterable[float]) -> None:
    """Ask for many as one batch."""
    taskcontrol.bulk_enqueue(({"asked_at": one} for one in times), method=bodies.noop)
