"""What one call reads of the ledger: each thing once, however many tasks the call stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property

from . import backlog, following
from .conf import most_queued
from .exceptions import QueueOverloaded
from .models import TaskLog
from .status import Status

_no_limit: ContextVar[bool] = ContextVar("taskcontrol_no_limit", default=False)


@contextmanager
def beyond_limits() -> Iterator[None]:
    """Let what is enqueued within pass ``max_queued_jobs``: a task that empties a queue.

    Else a queue that is too full could never be emptied by a task that waits in it.
    """
    token = _no_limit.set(True)
    try:
        yield
    finally:
        _no_limit.reset(token)


class Glance:
    """What one call of ``enqueue`` or ``bulk_enqueue`` has seen of the ledger so far."""

    @cached_property
    def is_starved(self) -> Callable[[str], bool]:
        """Whether more wait in a queue than a task should have to wait for."""
        return cache(backlog.is_starved)

    @cached_property
    def _predecessor(self) -> Callable[[str], int | None]:
        return cache(following.predecessor)

    @cached_property
    def _length(self) -> Callable[[str, int], int]:
        return cache(backlog.length)

    @cached_property
    def _coming(self) -> Counter[str]:
        return Counter()

    def predecessor(self, task: TaskLog | str | int) -> int | None:
        """Return the key of ``task`` while it is to be waited for; see ``following``."""
        return self._predecessor(following.key_of(task))

    def refuse_overload(self, rows: Iterable[TaskLog]) -> None:
        """Raise QueueOverloaded when ``rows`` and those before are too many for their queue.

        Costs nothing where no limit is set, and no lock where one is: calls at the same
        moment may pass the limit by what they add.
        """
        if _no_limit.get():
            return
        coming = Counter(row.queue for row in rows if row.status == Status.PENDING)
        self._coming += coming
        for queue in coming:
            limit = most_queued(queue)
            if limit is None:
                continue
            waiting, adding = self._length(queue, limit + 1), self._coming[queue]
            if waiting + adding > limit:
                raise QueueOverloaded(queue, waiting, adding, limit)
