"""What a run of each type usually takes, learned from the runs that ended."""

from __future__ import annotations

from django.db.models import Avg, Max

from .brief import brief
from .dialect import DatabaseNow, free_keys
from .models import DispatcherState, TaskLog, TaskType, seconds

#: How much the newest window counts against what was known.
WEIGHT = 0.3
#: Seconds of ended runs that are looked at, and seconds between two looks.
WINDOW = 10.0
EVERY = 2.0


def learn() -> int:
    """Update ``usual_seconds`` of the types that ended tasks lately; return how many.

    The mean leans to the longest run: a type with one long run among many short ones must
    not fill the broker with what looks short. Does nothing while another process does it.
    """
    if not _is_my_turn():
        return 0
    ended = TaskLog.objects.filter(
        ended_at__gt=DatabaseNow() - seconds(WINDOW), time_taken__isnull=False
    )
    found = (
        ended.order_by()
        .values("method")
        .annotate(mean=Avg("time_taken"), most=Max("time_taken"))
    )
    runs = {row["method"]: (row["mean"] + row["most"]).total_seconds() / 2 for row in found}
    if not runs:
        return 0
    with brief():
        # A type that a person is changing at this moment learns the next time.
        free = free_keys(TaskType.objects.filter(method__in=runs).order_by("pk"))
        kinds = list(TaskType.objects.filter(pk__in=free).only("method", "usual_seconds"))
        for kind in kinds:
            _lean(kind, runs[kind.method])
        TaskType.objects.bulk_update(kinds, ["usual_seconds"])
    return len(kinds)


def _lean(kind: TaskType, new: float) -> None:
    known = kind.usual_seconds
    learned = new if known is None else (1 - WEIGHT) * known + WEIGHT * new
    kind.usual_seconds = round(learned, 6)


def _is_my_turn() -> bool:
    """Take the turn unless another process took it just now."""
    rows = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE)
    now = DatabaseNow()
    free = rows.exclude(learned_at__gt=now - seconds(EVERY))
    return bool(free.update(learned_at=now))
