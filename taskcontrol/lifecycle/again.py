"""Back to Pending after an attempt: what failed, what was lost, and what is wanted again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F

from .. import batches, crashpoints, keys
from ..brief import brief
from ..dialect import DatabaseNow, locked_keys
from ..history import CLEARED, archive, record
from ..lanes import ready_lane
from ..models import TaskEvent, TaskLog
from ..status import Status
from .arrows import free_ones, move

Kind = TaskEvent.Kind


def retry_due(ids: Sequence[int]) -> int:
    """Failed -> Pending for automatic retries whose time has come; return how many."""
    due = TaskLog.objects.filter(
        pk__in=ids, retry_at__lte=DatabaseNow(), retry_count__lt=F("max_retries")
    )
    with brief():
        locked = free_ones(due.filter(status=Status.FAILED))
        archive(locked)
        crashpoints.reached("retries.archived")
        moved = _again(due.filter(pk__in=locked), Status.FAILED)
    return len(moved)


#: A retry by hand is wanted now: what once held the task back or ended it is forgotten.
ASKED_FOR: dict[str, Any] = {
    "ready_lane": ready_lane(at_once=True),
    "lost_count": 0,
    "run_at": None,
    "expires_at": None,
    "after": None,
}


def retry_by_hand(
    task_id: int, old: Status, *, actor: Any = None, first: bool = False
) -> bool:
    """Failed or Canceled -> Pending because somebody asked; ``first`` puts it at the front.

    Raises KeyTaken when another task has got its deduplication key meanwhile.
    """
    rows = TaskLog.objects.filter(pk=task_id)
    with brief():
        keys.regain(task_id)  # before the row: calls that merge lock in this order
        locked = locked_keys(rows.filter(status=old))
        return bool(_revive(locked, old, actor, first=first))


def retry_all(rows: Any, old: Status, *, actor: Any = None) -> int:
    """The same for those of ``rows`` that are ``old``, which have no keys; return how many."""
    with brief():
        locked = locked_keys(rows.filter(status=old))
        return _revive(locked, old, actor)


def _revive(locked: list[int], old: Status, actor: Any, *, first: bool = False) -> int:
    archive(locked)
    values = {"at_front": True, "position": 0} if first else {}
    rows = TaskLog.objects.filter(pk__in=locked)
    columns = ("attempt", "batch_id")
    moved = _again(rows, old, columns=columns, **ASKED_FOR, **values)
    detail = "first in line" if first else ""
    record(moved, Kind.RETRIED, actor=actor, old=old, new=Status.PENDING, detail=detail)
    batches.reopen(task.batch_id for task in moved)
    return len(moved)


def _again(rows: Any, old: Status, **values: Any) -> list[TaskLog]:
    return move(
        rows,
        old,
        Status.PENDING,
        **{
            "retry_count": F("retry_count") + 1,
            "ready_lane": ready_lane(),
            **CLEARED,
            **values,
        },
    )


def rescue(task_id: int, attempt: int, *, detail: str, occupied: bool = False) -> bool:
    """Started -> Pending: its process was lost, and it may run again.

    ``occupied`` says that the old body may still run; the next attempt then waits for it.
    """
    return _rerun(
        task_id,
        attempt,
        Kind.RESCUED,
        detail,
        occupied=occupied,
        lost_count=F("lost_count") + 1,
    )


def give_back(task_id: int, attempt: int, *, detail: str, occupied: bool = False) -> bool:
    """Started -> Pending, uncounted: its worker left in order before the end.

    ``occupied`` as in ``rescue``.
    """
    return _rerun(task_id, attempt, Kind.RETURNED, detail, occupied=occupied)


def _rerun(
    task_id: int, attempt: int, kind: Kind, detail: str, *, occupied: bool, **values: Any
) -> bool:
    rows = TaskLog.objects.filter(pk=task_id, attempt=attempt, status=Status.STARTED)
    with brief():
        locked = free_ones(rows)
        archive(locked, ended_reason=detail)
        moved = move(
            rows.filter(pk__in=locked),
            Status.STARTED,
            Status.PENDING,
            ready_lane=None if occupied else F("lane"),
            occupies=occupied,
            columns=("attempt",),
            **{**CLEARED, **values},
        )
        record(moved, kind, old=Status.STARTED, new=Status.PENDING, detail=detail)
    return bool(moved)
