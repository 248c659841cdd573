"""Finds tasks by what callers know of them, and says how they stand: read from the database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .conf import known_queues
from .exceptions import UnknownQueue
from .models import TaskLog, TaskLogQuerySet, may_run
from .status import Status

#: The longest number that is surely a key: no database stores more.
_DIGITS = 18


def get_job(key: TaskLog | str | int) -> TaskLog | None:
    """Return the task with this ``job_id``, key or Celery id as it is now; None if unknown.

    A text is taken for a ``job_id`` first, and of several tasks with the same the newest is
    returned; then for ``task.name``; then for the Celery id of the last attempt. A number
    or a row is always that task.
    """
    return next((row for rows in _ways_to(key) for row in rows[:1]), None)


def get_job_status(key: TaskLog | str | int) -> Status | None:
    """Return the status of the task that ``get_job`` finds; None if unknown.

    A Failed task may still be retried: ``get_job(key).ended`` tells.
    """
    statuses = (rows.values_list("status", flat=True)[:1] for rows in _ways_to(key))
    return next((Status(status) for found in statuses for status in found), None)


def is_job_enqueued(job_id: str) -> bool:
    """Return whether a task with this ``job_id`` has not ended: waits, runs or is retried.

    One that has expired while it waited has not ended before a dispatcher cancels it, and
    is not counted: it will never start.
    """
    given: object = job_id
    text = "" if given is None else str(given)
    if not text or not _is_storable(text):
        return False
    rows = TaskLog.objects.unended().filter(may_run(), job_id=text)
    # An order that only one index has: else a common id is looked for row by row.
    return bool(rows.order_by("ended_at", "retry_at").values_list("pk")[:1])


def get_jobs(queue: str | None = None) -> TaskLogQuerySet:
    """Return the tasks that have not ended, of one queue or queue by queue, oldest first.

    A queryset: nothing is read before it is used, and it can be filtered and sliced.
    Raises UnknownQueue (a ValueError) for a queue that no setting declares.
    """
    rows: TaskLogQuerySet = TaskLog.objects.unended().order_by("queue", "position", "pk")
    if queue is None:
        return rows
    if queue not in known_queues():
        raise UnknownQueue(queue, known_queues())
    return rows.filter(queue=queue)


def _ways_to(key: TaskLog | str | int) -> Iterator[Any]:
    """Yield the rows that ``key`` may mean, what is most likely meant first."""
    rows = TaskLog.objects.order_by()
    if isinstance(key, TaskLog | int):
        yield rows.filter(pk=key.pk if isinstance(key, TaskLog) else key)
        return
    text = str(key)
    if not _is_storable(text):
        return
    yield rows.filter(job_id=text).order_by("-pk")
    if text.isascii() and text.isdecimal() and len(text) <= _DIGITS:
        yield rows.filter(pk=int(text))
    yield rows.filter(celery_task_id=text)


def _is_storable(text: object) -> bool:
    """Databases refuse to look for what they cannot store."""
    return not any(sign == "\x00" or "\ud800" <= sign <= "\udfff" for sign in str(text))
