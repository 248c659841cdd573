"""Ends the grace of a body that was told to stop: its worker kills it at once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from . import permissions
from .brief import brief
from .dialect import DatabaseNow
from .exceptions import InvalidCall
from .history import record
from .lookup import find_task
from .models import TaskEvent, TaskLog, Worker, seconds
from .pokes import poke_after_commit
from .status import TERMINAL

#: Seconds that every body gets: within one it is told to stop.
LEAST_GRACE = 2.0


def may_be_forced(row: TaskLog) -> bool:
    """Return whether the body of ``row`` was told to stop and its process could be killed."""
    return bool(row.occupies and row.status in TERMINAL and _stoppable(row).exists())


def force_stop(task: TaskLog | str | int, *, user: Any = None) -> None:
    """Let the process of a body that was told to stop be killed now, before ``CANCEL_GRACE``.

    Its worker does it within about a second, exactly as after the grace: only the process
    that runs this attempt, and only while it does. Raises InvalidCall (a ValueError) unless
    the task has ended while its body is still there, two seconds after it was told to stop,
    in a live prefork worker. ``user`` as in ``cancel``.
    """
    row = find_task(task)
    permissions.require(user, permissions.CANCEL, row, "stop the body of")
    with brief():
        row.refresh_from_db()
        if not may_be_forced(row):
            raise InvalidCall(
                f"Task {row.pk} has no body that could be stopped by force: it must have been "
                f"told to stop {LEAST_GRACE:g} s ago and still run in a live prefork worker."
            )
        record([row], TaskEvent.Kind.FORCING, actor=user)
        poke_after_commit([row])


def is_wanted(row: TaskLog) -> bool:
    """Return whether somebody wants the body of this attempt to be killed at once."""
    events = TaskEvent.objects.filter(task=row.pk, attempt=row.attempt)
    return bool(events.filter(kind=TaskEvent.Kind.FORCING).exists())


def wanted_of(attempts: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of these attempts whose bodies somebody, or an account, wants killed."""
    if not attempts:
        return []
    events = TaskEvent.objects.filter(task__in=[task_id for task_id, _ in attempts])
    told = events.filter(kind=TaskEvent.Kind.FORCING).values_list("task_id", "attempt")
    return sorted(set(attempts) & set(told))


def _stoppable(row: TaskLog) -> Any:
    long_ago = DatabaseNow() - seconds(LEAST_GRACE)
    told = TaskLog.objects.filter(pk=row.pk, attempt=row.attempt, occupies=True)
    alive = Worker.objects.filter(pool="prefork", left_at=None, lost_at=None)
    return told.filter(ended_at__lt=long_ago, worker__in=alive.values("pk"))
