"""How long the line of a queue is, counted no further than needed: starved, or overloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .conf import conf, most_queued
from .exceptions import QueueOverloaded
from .models import TaskLog
from .status import Status

#: What stands in the line of a queue; what is paused does not.
IN_LINE = (Status.PENDING, Status.QUEUED)


def is_starved(queue: str, using: str | None = None) -> bool:
    """Return whether more than ``STARVED_AFTER`` tasks of the queue wait for their start."""
    most: int = conf.STARVED_AFTER
    return _length(queue, most + 1, using) > most


def refuse_overload(rows: Iterable[TaskLog], using: str | None = None) -> None:
    """Raise QueueOverloaded when ``rows``, not yet inserted, are too many for their queue.

    Costs nothing where no limit is set, and no lock where one is: calls at the same moment
    may pass the limit by what they add.
    """
    coming = Counter(row.queue for row in rows if row.status == Status.PENDING)
    for queue, number in coming.items():
        limit = most_queued(queue)
        if limit is None:
            continue
        waiting = _length(queue, limit + 1, using)
        if waiting + number > limit:
            raise QueueOverloaded(queue, waiting, number, limit)


def _length(queue: str, most: int, using: str | None) -> int:
    """Return how many tasks stand in the line, counted up to ``most``."""
    rows = TaskLog.objects.using(using or conf.DATABASE).filter(queue=queue)
    return rows.filter(status__in=IN_LINE).order_by().values("pk")[:most].count()
