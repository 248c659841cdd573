"""Holds one waiting task back and lets it go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import lifecycle, permissions
from .bell import request_dispatch
from .exceptions import InvalidTransition
from .lookup import find_task, read_again
from .models import TaskLog
from .status import Status

if TYPE_CHECKING:
    from .people import Person


def pause(
    task: TaskLog | str | int, *, user: Person | None = None, reason: str = ""
) -> TaskLog:
    """Hold a Pending task back until it is resumed, and return its row.

    Raises InvalidTransition (a ValueError) from any other status.
    """
    row = find_task(task)
    permissions.require(user, permissions.PRIORITIZE, row, "pause")
    moved = lifecycle.pause(row.pk, actor=user, reason=reason)
    read_again(row)
    if not moved:
        raise InvalidTransition(row.pk, "paused", row.status, (Status.PENDING,))
    return row


def resume(task: TaskLog | str | int, *, user: Person | None = None) -> TaskLog:
    """Let a Paused task go on at its old place in the line, and return its row.

    Raises InvalidTransition (a ValueError) from any other status.
    """
    row = find_task(task)
    permissions.require(user, permissions.PRIORITIZE, row, "resume")
    moved = lifecycle.resume(row.pk, actor=user)
    read_again(row)
    if not moved:
        raise InvalidTransition(row.pk, "resumed", row.status, (Status.PAUSED,))
    request_dispatch()
    return row
