"""Finds the row behind what a public call takes for a task."""

from __future__ import annotations

from .exceptions import TaskNotFound
from .models import TaskLog


def find_task(task: TaskLog | str | int) -> TaskLog:
    """Return the row of a task given as row, as key or as ``task.name``.

    Raises TaskNotFound (a LookupError) when there is none.
    """
    if isinstance(task, TaskLog):
        return task
    try:
        key = int(str(task))
    except ValueError:
        raise TaskNotFound(task) from None
    row: TaskLog | None = TaskLog.objects.filter(pk=key).first()
    if row is None:
        raise TaskNotFound(task)
    return row


def read_again(row: TaskLog) -> None:
    """Bring ``row`` up to date; raise TaskNotFound when it was deleted meanwhile."""
    try:
        row.refresh_from_db()
    except TaskLog.DoesNotExist:
        raise TaskNotFound(row.pk) from None
