"""Pending -> Paused and back: tasks that are to wait although nothing stands in their way."""

from __future__ import annotations

from typing import Any

from ..brief import brief
from ..dialect import locked_keys
from ..history import record
from ..lanes import ready_lane
from ..models import TaskEvent, TaskLog
from ..status import Status
from ..text import clipped
from .arrows import free_ones, move
from .sending import unsend

Kind = TaskEvent.Kind


def pause(task_id: int, *, actor: Any = None, reason: str = "") -> bool:
    """Pending -> Paused."""
    return bool(_pause(TaskLog.objects.filter(pk=task_id), actor, reason))


def pause_all(rows: Any, *, actor: Any = None, reason: str = "") -> int:
    """Pending -> Paused for those of ``rows`` that nobody else is changing; return how many."""
    with brief():
        free = free_ones(rows.filter(status=Status.PENDING))
        return _pause(TaskLog.objects.filter(pk__in=free), actor, reason)


def _pause(rows: Any, actor: Any, reason: str) -> int:
    return _hold(rows, Status.PENDING, Status.PAUSED, Kind.PAUSED, actor, reason)


def hold_back(rows: Any, page: int, *, actor: Any = None, reason: str = "") -> int:
    """Queued -> Pending and Pending -> Paused for a page of ``rows``; return how many."""
    with brief():
        sent = rows.filter(status=Status.QUEUED).values_list("pk", "attempt")[:page]
        unsend(list(sent), detail=reason)
        waiting = rows.filter(status=Status.PENDING).values_list("pk", flat=True)[:page]
        same = TaskLog.objects.filter(pk__in=list(waiting))
        return pause_all(same, actor=actor, reason=reason)


def resume(task_id: int, *, actor: Any = None) -> bool:
    """Paused -> Pending, at its old place in the line."""
    return bool(_resume(TaskLog.objects.filter(pk=task_id), actor))


def resume_all(rows: Any, *, actor: Any = None) -> int:
    """Paused -> Pending for those of ``rows`` that are Paused; return how many."""
    with brief():
        paused = rows.filter(status=Status.PAUSED)
        locked = locked_keys(paused)
        return _resume(TaskLog.objects.filter(pk__in=locked), actor)


def _resume(rows: Any, actor: Any) -> int:
    return _hold(rows, Status.PAUSED, Status.PENDING, Kind.RESUMED, actor, "")


def _hold(rows: Any, old: Status, new: Status, kind: Kind, actor: Any, reason: str) -> int:
    lane = ready_lane() if new is Status.PENDING else None
    with brief():
        moved = move(
            rows,
            old,
            new,
            ready_lane=lane,
            message=clipped(reason, 1000) or None,
            columns=("attempt",),
        )
        record(moved, kind, actor=actor, old=old, new=new, detail=reason)
    return len(moved)
