"""Cancels everything that waits in a queue, page by page."""

from __future__ import annotations

from typing import Any

from . import lifecycle
from .bell import request_dispatch
from .conf import conf
from .context import current_task
from .dialect import by_index
from .exceptions import NotPermitted
from .models import TaskLog
from .status import Status

PERMISSION = "taskcontrol.control_queue"


def purge_queue(
    queue: str, reason: str = "", *, up_to: int | None = None, user: Any = None
) -> int:
    """Cancel the Pending tasks of a queue, also those for later; return how many.

    What was sent or runs goes on, and so do paused tasks and due retries. ``up_to``: no
    task with a larger id, so that what comes meanwhile is spared; None = the newest now.
    Goes on where it was cut when it is called again.

    ``user`` is recorded and needs the permission ``control_queue``, else PermissionError;
    without a user the system acts.
    """
    require(user, queue)
    last = newest_pending(queue) if up_to is None else up_to
    rows = pending_in(queue).filter(pk__lte=last)
    total = rows.count() if current_task() else 0
    seen = canceled = 0
    while page := list(rows.filter(pk__gt=seen).values_list("pk", flat=True)[: _page()]):
        seen = page[-1]
        some = TaskLog.objects.filter(pk__in=page)
        canceled += lifecycle.cancel_all(some, Status.PENDING, actor=user, reason=reason)
        _report(canceled, total)
    request_dispatch()
    return canceled


def purge_as_task(of: str, reason: str, up_to: int) -> int:
    """Purge a queue as a task, with a bar, in the name of who enqueued it."""
    task = current_task()
    user = task.user if task is not None else None
    return purge_queue(of, reason, up_to=up_to, user=user)


def require(user: Any, queue: str) -> None:
    """Raise NotPermitted unless ``user`` may purge."""
    if user is not None and not user.has_perm(PERMISSION):
        raise NotPermitted(user, PERMISSION, f"purge the queue {queue!r}")


def pending_in(queue: str) -> Any:
    """Return the tasks that a purge of the queue cancels, in the order of their ids."""
    return by_index(TaskLog.objects.filter(status=Status.PENDING), "queue", queue)


def newest_pending(queue: str) -> int:
    """Return the largest id among them; 0 when nothing waits."""
    newest = pending_in(queue).reverse().values_list("pk", flat=True)
    return newest.first() or 0


def _page() -> int:
    size: int = conf.SWEEP_PAGE
    return size


def _report(canceled: int, total: int) -> None:
    task = current_task()
    if task is not None:
        task.check_canceled()
        task.report({"progress": {"count": canceled, "total": total}})
