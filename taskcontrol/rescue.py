"""Finds the tasks whose process is gone, and lets them run again or fail."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from django.db.models import OuterRef, Subquery
from django.db.models.functions import Coalesce

from . import crashpoints, lifecycle, losses
from .bell import request_dispatch
from .brief import brief
from .conf import conf
from .context import without_user_code
from .dialect import DatabaseNow, free_keys, update_returning
from .exceptions import TimedOut
from .models import TaskAttempt, TaskLog, Worker, seconds
from .occupancy import AT_ONCE_GRACE
from .status import Status

logger = logging.getLogger("taskcontrol")


#: When the row of a silent worker was last found to be held by somebody else.
_held_at: dict[int, float] = {}


def rescue_lost_tasks() -> int:
    """Declare silent workers lost and rescue what they held; return how many tasks moved.

    Safe to run anywhere, any number at once. A worker that comes back after it was declared
    lost stops its bodies: what they write counts for nothing.
    """
    with without_user_code():
        _declare_lost()
        held = [*_held_by_lost_workers(), *_held_by_nobody()]
        return sum(_rescue_safely(row) for row in held)


def _held_by_lost_workers() -> Iterator[TaskLog]:
    """Go page by page, past those that cannot be rescued; a deleted worker is lost too."""
    there = Worker.objects.filter(left_at=None, lost_at=None).values("pk")
    held = TaskLog.objects.filter(occupies=True, worker__isnull=False)
    return _by_page(held.exclude(worker__in=there).prefetch_related("worker"))


def _by_page(rows: Any) -> Iterator[Any]:
    page = list(rows.order_by("pk")[: conf.SWEEP_PAGE])
    while page:
        yield from page
        page = list(rows.filter(pk__gt=page[-1].pk).order_by("pk")[: conf.SWEEP_PAGE])


def _held_by_nobody() -> Iterator[TaskLog]:
    """Tasks that ran at once (``now=True``) in a process that must be gone.

    No worker vouches for them; long after their timeout nobody can. What was canceled and
    is to run again has cleared when it began: its last attempt says so.
    """
    rows = TaskLog.objects.filter(occupies=True, worker=None).exclude(status=Status.QUEUED)
    runs = TaskAttempt.objects.filter(task=OuterRef("pk"), attempt=OuterRef("attempt"))
    began = Coalesce("started_at", Subquery(runs.values("started_at")[:1]), "created_at")
    for row in _by_page(rows.annotate(now=DatabaseNow(), began=began)):
        if (row.now - row.began).total_seconds() > row.timeout + AT_ONCE_GRACE:
            yield row


def _declare_lost() -> None:
    silent = Worker.objects.filter(
        left_at=None,
        lost_at=None,
        last_seen_at__lt=DatabaseNow() - seconds(conf.WORKER_LOST_AFTER),
    )
    for worker in _lost_of(silent):
        logger.error(
            "Worker %s gave no sign of life for %g s; its tasks are rescued.",
            worker.hostname,
            conf.WORKER_LOST_AFTER,
        )
        crashpoints.reached("rescue.declared")


def _lost_of(silent: Any) -> list[Worker]:
    """Declare lost those of ``silent`` whose rows are free; return them.

    Where somebody else holds the row, the worker itself cannot write its sign of life. It
    gets the time of two signs after that.
    """
    ids = list(silent.order_by("pk").values_list("pk", flat=True))
    if not ids:
        return []
    now = time.monotonic()
    for worker_id, at in list(_held_at.items()):
        if now - at > 2 * conf.HEARTBEAT_INTERVAL:
            _held_at.pop(worker_id, None)
    # Before the rows are locked here: a sweep in another thread would take this one for
    # somebody who keeps the worker from signing, and neither would declare it lost.
    were_held = set(_held_at)
    with brief():
        free = free_keys(Worker.objects.filter(pk__in=ids).order_by("pk"))
        _held_at.update(dict.fromkeys(set(ids) - set(free), now))
        lost = silent.filter(pk__in=set(free) - were_held)
        return update_returning(lost, {"lost_at": DatabaseNow()}, ("hostname",))


def _rescue_safely(row: TaskLog) -> int:
    try:
        with brief():
            # Whoever is changing it has it: the next sweep looks again.
            if not free_keys(TaskLog.objects.filter(pk=row.pk)):
                return 0
            crashpoints.reached("rescue.locked")
            moved = rescue_from_worker(row)
    except Exception:
        logger.exception("Task %s could not be rescued.", row.pk)
        return 0
    crashpoints.reached("rescue.moved")
    return moved


def rescue_from_worker(row: TaskLog) -> int:
    """Move one task off its worker, which is gone; return 1 if it moved."""
    if row.status == Status.QUEUED:
        return _let_go(row)
    if row.status != Status.STARTED:
        freed = lifecycle.release(row.pk, row.attempt)
        request_dispatch()
        return int(freed)
    if row.worker_id is None:
        return int(_end_abandoned(row))
    worker = row.worker
    if worker is not None and worker.left_at is not None:
        return int(losses.give_back(row, "its worker left"))
    return int(losses.lose(row, f"worker {worker.hostname if worker else 'unknown'}"))


def _let_go(row: TaskLog) -> int:
    """What a worker had claimed, and no body is known of, waits again, uncounted."""
    why = "its worker is gone, and had not said that its body began"
    back = lifecycle.unsend([(row.pk, row.attempt)], detail=why, worker_id=row.worker_id)
    request_dispatch()
    return back


def _end_abandoned(row: TaskLog) -> bool:
    return lifecycle.fail(
        row.pk,
        row.attempt,
        error=f"TimedOut: {TimedOut(row.timeout)} It ran at once (now=True) in process "
        f"{row.pid}, which has written no end: it is gone, or cannot be interrupted.",
        reason="timed out",
    )
