"""How long the line of a queue is, counted no further than needed."""

from __future__ import annotations

from .conf import conf
from .dialect import by_index
from .models import TaskLog
from .status import Status

#: What stands in the line of a queue; what is paused does not.
IN_LINE = (Status.PENDING, Status.QUEUED)


def is_starved(queue: str) -> bool:
    """Return whether more than ``STARVED_AFTER`` tasks of the queue wait for their start."""
    most: int = conf.STARVED_AFTER
    return length(queue, most + 1) > most


def length(queue: str, most: int) -> int:
    """Return how many tasks stand in the line of a queue, counted up to ``most``."""
    rows = TaskLog.objects.filter(status__in=IN_LINE)
    return by_index(rows, "queue", queue, "status").values("pk")[:most].count()
