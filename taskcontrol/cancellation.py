"""Stops a task wherever it is: waiting, sent or running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import crashpoints, lifecycle, permissions
from .bell import request_dispatch
from .lookup import find_task, read_again
from .models import TaskLog

if TYPE_CHECKING:
    from .people import Person


def cancel(
    task: TaskLog | str | int, reason: str = "", *, user: Person | None = None
) -> bool:
    """Cancel a task; return False when it had already ended.

    The row decides: from this call on the task is Canceled, whatever its body does. What
    waits never starts. A running body is told to stop within about a second and, on
    prefork, ended by force after ``CANCEL_GRACE`` seconds; until it is gone it keeps its
    place, so that limits hold. On threads and solo pools the body stops where it asks
    (``current_task().check_canceled()``).

    ``user`` is recorded, and needs the permission ``cancel_tasklog`` or to be the owner of a
    task whose type allows it, else PermissionError; without a user the system acts.
    """
    row = find_task(task)
    permissions.require(user, permissions.CANCEL, row, "cancel")
    left = lifecycle.cancel(row, actor=user, reason=reason)
    if left is None:
        return False
    crashpoints.reached("cancel.written")
    read_again(row)
    request_dispatch()
    return True
