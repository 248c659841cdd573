"""Says whether new code may be deployed: no body runs and none is about to."""

from __future__ import annotations

import time

from django.db.models import F

from .models import TaskLog

#: How often nothing must be seen in a row, and the seconds between two looks: between its
#: message and its claim, or between two attempts, a task may hide from a single look.
LOOKS = 3
PAUSE = 1.0
#: Tasks that are named.
MOST = 100


def busy_tasks(*, wait: float = 0.0) -> list[TaskLog]:
    """Return the tasks that are sent, running or stopping, the longest running first.

    Empty only after three looks a second apart found nothing. Otherwise looks on for up to
    ``wait`` seconds before it says what it sees.
    """
    until = time.monotonic() + wait
    quiet = 0
    while True:
        busy = _look()
        quiet = 0 if busy else quiet + 1
        if quiet == LOOKS or (busy and time.monotonic() >= until):
            return busy
        time.sleep(PAUSE)


def _look() -> list[TaskLog]:
    rows = TaskLog.objects.occupying().order_by(F("started_at").asc(nulls_last=True), "pk")
    return list(rows.defer("arguments", "debug_log", "error_message", "result")[:MOST])
