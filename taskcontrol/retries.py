"""When a failed task runs again: the sweep of what is due, and retries by hand."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from django.db.models import Q

from . import crashpoints, lifecycle, permissions
from .bell import request_dispatch
from .conf import conf
from .exceptions import InvalidTransition, TaskNotFound
from .lookup import find_task, read_again
from .models import TaskLog
from .status import Status
from .turns import retries_due

if TYPE_CHECKING:
    from .people import Person

logger = logging.getLogger("taskcontrol")


def retry_failed_tasks() -> int:
    """Move the failed tasks whose retry is due back to Pending; return how many.

    Safe to run anywhere, any number at once. A row that cannot be retried is logged and
    left; it stops neither the others nor the dispatcher: behind a page with such rows the
    next one follows. What is due beyond a page that moved waits for the next pass.
    """
    moved = 0
    page = _due()
    while page:
        now = _retry_page([pk for _, pk in page])
        moved += now
        if now == len(page) or len(page) < conf.SWEEP_PAGE:
            break
        page = _due(behind=page[-1])
    return moved


def _due(behind: tuple[datetime, int] | None = None) -> list[tuple[datetime, int]]:
    """Return the next page of what is due, the longest due first."""
    rows = retries_due()
    if behind is not None:
        at, key = behind
        rows = rows.filter(
            Q(retry_at__gt=at) | Q(retry_at=at, pk__gt=key), retry_at__gte=at
        )
    found = rows.order_by("retry_at", "pk").values_list("retry_at", "pk")
    return list(found[: conf.SWEEP_PAGE])


def _retry_page(ids: list[int]) -> int:
    crashpoints.reached("retries.found")
    try:
        moved = lifecycle.retry_due(ids)
    except Exception:
        logger.exception("The retry sweep failed for a page; it goes on row by row.")
        moved = sum(_retry_one(task_id) for task_id in ids)
    crashpoints.reached("retries.moved")
    return moved


def _retry_one(task_id: int) -> int:
    try:
        return lifecycle.retry_due([task_id])
    except Exception:
        logger.exception("Task %s could not be retried.", task_id)
        return 0


def retry(
    task: TaskLog | str | int,
    now: bool = False,  # noqa: FBT001, FBT002 - the seeds' call
    *,
    user: Person | None = None,
) -> TaskLog:
    """Run a Failed or Canceled task again by hand, and return its row.

    ``now=True`` puts it first in line; limits and pauses hold all the same. Counts as a
    retry. Raises InvalidTransition (a ValueError) from any other status. ``user`` as in
    ``cancel``, with the permission ``retry_tasklog``.
    """
    row = find_task(task)
    permissions.require(user, permissions.RETRY, row, "retry")
    retryable = (Status.FAILED, Status.CANCELED)
    while True:
        status = TaskLog.objects.filter(pk=row.pk).values_list("status", flat=True).first()
        if status is None:
            raise TaskNotFound(row.pk)
        if status not in retryable:
            raise InvalidTransition(row.pk, "retried", status, retryable)
        if lifecycle.retry_by_hand(row.pk, Status(status), actor=user, first=now):
            crashpoints.reached("retry.written")
            request_dispatch()
            read_again(row)
            return row
