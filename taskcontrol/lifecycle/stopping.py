"""Any status that is not an end -> Canceled: because somebody asked, or its time is over."""

from __future__ import annotations

from typing import Any

from django.db.models import Case, Exists, F, OuterRef, Value, When

from ..brief import brief
from ..dialect import DatabaseNow, locked_keys
from ..history import record
from ..models import TaskAttempt, TaskEvent, TaskLog
from ..status import MOVES, Status
from ..text import clipped
from .arrows import end_of_a_body, free_ones, move

Kind = TaskEvent.Kind


def cancel(task: TaskLog, *, actor: Any = None, reason: str = "") -> Status | None:
    """Any status that is not ended -> Canceled; return the status that it left, or None.

    Reads the status and writes under it, again while others are faster: every round that
    loses means that the task moved on, and it can do so only a few times.
    """
    while True:
        row = TaskLog.objects.filter(pk=task.pk).values("status", "retry_at").first()
        if row is None or Status.CANCELED not in MOVES[Status(row["status"])]:
            return None
        old = Status(row["status"])
        if old is Status.FAILED and row["retry_at"] is None:
            return None
        if _cancel_from(old, TaskLog.objects.filter(pk=task.pk), actor, reason):
            return old


def cancel_all(rows: Any, old: Status, *, actor: Any = None, reason: str = "") -> int:
    """Those of ``rows`` that are ``old`` -> Canceled; return how many."""
    with brief():
        locked = locked_keys(rows.filter(status=old))
        return len(_cancel_from(old, rows.filter(pk__in=locked), actor, reason))


def _cancel_from(old: Status, rows: Any, actor: Any, reason: str) -> list[TaskLog]:
    values = {"ended_at": DatabaseNow(), **_freed(old)}
    if old is Status.STARTED:
        values = {"ended_at": end_of_a_body(), "cancel_requested_at": DatabaseNow()}
    if old is Status.QUEUED:
        values = {
            **values,
            "cancel_requested_at": Case(
                When(worker=None, then=F("cancel_requested_at")), default=DatabaseNow()
            ),
        }
    if old is Status.FAILED:
        rows = rows.exclude(retry_at=None)
    with brief():
        moved = move(
            rows,
            old,
            Status.CANCELED,
            retry_at=None,
            ready_lane=None,
            canceled_by=getattr(actor, "pk", None),
            ended_reason=clipped(reason, 300),
            message=clipped(reason, 1000) or None,
            columns=("attempt",),
            **values,
        )
        record(
            moved, Kind.CANCELED, actor=actor, old=old, new=Status.CANCELED, detail=reason
        )
    return moved


def _freed(old: Status) -> dict[str, Any]:
    """Only a task that was sent gives its place up when it is stopped.

    Behind every other one the body of this or of an earlier attempt may still run; so it may
    behind one that a worker claimed as it was sent, until that worker says otherwise.
    """
    held = Case(When(worker=None, then=Value(value=False)), default=F("occupies"))
    return {"occupies": held} if old is Status.QUEUED else {}


def expire(page: int) -> int:
    """Waiting -> Canceled for tasks past ``expires_at``; return how many."""
    count = 0
    for old in (Status.PENDING, Status.PAUSED, Status.QUEUED):
        due = TaskLog.objects.filter(
            status=old, expires_at__lte=DatabaseNow(), ended_at=None
        ).order_by("expires_at")
        if old is Status.QUEUED:
            # Of one that a worker has claimed only that knows whether it began in time.
            due = due.filter(worker=None)
        with brief():
            moved = move(
                TaskLog.objects.filter(pk__in=free_ones(due[:page])),
                old,
                Status.CANCELED,
                ended_at=DatabaseNow(),
                ready_lane=None,
                ended_reason=_how_it_expired(),
                columns=("attempt",),
                **_freed(old),
            )
            record(moved, Kind.EXPIRED, old=old, new=Status.CANCELED)
        count += len(moved)
    return count


def _how_it_expired() -> Case:
    """Only a run that began is archived, and only a retry by hand sets an expiry aside."""
    runs = TaskAttempt.objects.filter(task=OuterRef("pk"))
    lost = "its process was lost, and it expired before it could start again"
    return Case(
        When(lost_count__gt=0, then=Value(lost)),
        When(Exists(runs), then=Value("expired before it could start again")),
        default=Value("expired before it started"),
    )
