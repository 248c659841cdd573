"""Puts one waiting task before all others of its queue."""

from __future__ import annotations

from typing import Any

from django.db.models import F, Value

from . import permissions
from .bell import request_dispatch
from .brief import brief
from .dialect import DatabaseMicroseconds, update_returning
from .exceptions import InvalidTransition
from .history import record
from .lookup import find_task, read_again
from .models import TaskEvent, TaskLog
from .pokes import poke_after_commit
from .status import Status

#: What stands in a line, or will again.
MOVABLE = (Status.PENDING, Status.PAUSED)


def move_to_front(task: TaskLog | str | int, *, user: Any = None) -> TaskLog:
    """Let a Pending or Paused task go first, whatever the priorities, and return its row.

    Who was moved last goes first. Limits, pauses and ``run_at`` hold all the same. Raises
    InvalidTransition (a ValueError) from any other status; ``user`` needs the permission
    ``prioritize_tasklog``, else PermissionError.
    """
    row = find_task(task)
    permissions.require(user, permissions.PRIORITIZE, row, "reorder")
    rows = TaskLog.objects.filter(pk=row.pk, status__in=MOVABLE)
    values = {
        "at_front": True,
        "position": Value(0) - DatabaseMicroseconds(),
        "rev": F("rev") + 1,
    }
    with brief():
        moved = update_returning(rows, values, ("attempt",))
        record(moved, TaskEvent.Kind.REORDERED, actor=user)
        poke_after_commit(moved)
    read_again(row)
    if not moved:
        raise InvalidTransition(row.pk, "put to the front", row.status, MOVABLE)
    request_dispatch()
    return row
