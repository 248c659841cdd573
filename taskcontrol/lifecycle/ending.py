"""Started -> Finished or Failed; and the place of a body, which is free when that is gone."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

from django.db import models
from django.db.models import Case, F, When

from ..brief import brief
from ..dialect import DatabaseNow, update_returning
from ..history import record
from ..models import TaskEvent, TaskLog
from ..pokes import poke_after_commit
from ..status import Status
from ..text import clipped, last_line
from .arrows import Arrow, announced, end_of_a_body


def finish(task_id: int, attempt: int, *, body_gone: bool = True, **outcome: Any) -> bool:
    """Started -> Finished; False when the attempt was canceled or given up on.

    ``body_gone=False`` keeps the place occupied: the body goes on behind its fenced block.
    """
    return _end(task_id, attempt, Status.FINISHED, body_gone=body_gone, **outcome)


def fail(
    task_id: int,
    attempt: int,
    *,
    error: str,
    reason: str = "",
    retry_in: float | None = None,
    body_gone: bool = True,
    **outcome: Any,
) -> bool:
    """Started -> Failed, with ``retry_at`` decided here if ``retry_in`` seconds are given.

    ``body_gone=False`` keeps the place occupied: the process may still run the body.
    """
    return _end(
        task_id,
        attempt,
        Status.FAILED,
        body_gone=body_gone,
        retry_in=retry_in,
        error_message=error,
        ended_reason=clipped(reason, 300),
        **outcome,
    )


def _end(
    task_id: int,
    attempt: int,
    to: Status,
    *,
    body_gone: bool,
    retry_in: float | None = None,
    **values: Any,
) -> bool:
    retried = retry_in is not None
    arrow = _ending(to, retried, tuple(sorted(values)))
    given = {"id": task_id, "attempt": attempt, "occupies": not body_gone, **values}
    if retried:
        # In this order NaN becomes 0.
        delay = min(max(0.0, retry_in or 0.0), LONGEST_DELAY)
        given["later"] = timedelta(seconds=delay)
    error = last_line(values.get("error_message", ""))
    return bool(announced(arrow, given, error=error))


#: Seconds after which a retry is as good as none.
LONGEST_DELAY = 10 * 365 * 86400.0


@cache
def _ending(to: Status, retried: bool, columns: tuple[str, ...]) -> Arrow:  # noqa: FBT001 - cached
    def build(p: Any) -> Any:
        rows = TaskLog.objects.filter(pk=p("id", "id"), attempt=p("attempt", "attempt"))
        later = DatabaseNow() + p("later", "time_taken")
        due = Case(
            When(retry_count__lt=F("max_retries"), then=later),
            default=None,
            output_field=models.DateTimeField(),
        )
        return rows, {
            "ended_at": end_of_a_body(),
            "occupies": p("occupies", "occupies"),
            "retry_at": due if retried else None,
            **{name: p(name, name) for name in columns},
        }

    # Whether a failure is the end, or an automatic retry follows, belongs to its news.
    return Arrow(Status.STARTED, to, build, ("retry_at",) if retried else ())


def release(task_id: int, attempt: int, *, detail: str = "", **told: Any) -> bool:
    """Free the place of an attempt whose body is gone; no change of status.

    A retry that waited for it may now be promoted. ``told`` are columns that a body which
    went on behind its end has yet to tell; ``detail`` is how one that was to go has gone.
    """
    lane = Case(
        When(status=Status.PENDING, then=F("lane")),
        default=None,
        output_field=models.BigIntegerField(),
    )
    rows = TaskLog.objects.filter(pk=task_id, attempt=attempt, occupies=True)
    values = {"occupies": False, "ready_lane": lane, "rev": F("rev") + 1, **told}
    with brief(savepoint=False, swift=True):
        freed: list[TaskLog] = update_returning(
            rows.exclude(status__in=(Status.QUEUED, Status.STARTED)),
            values,
            ("status", "attempt"),
        )
        # A body that was to go has gone; one that has finished just came to its end.
        gone = [task for task in freed if task.status != Status.FINISHED]
        record(gone, TaskEvent.Kind.GONE, detail=detail)
        poke_after_commit(freed)
    return bool(freed)
