"""Enqueues what is too much for one click, as a task in a queue that somebody serves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import dialect
from ..conf import conf, known_queues
from ..enqueueing import enqueue
from ..glance import beyond_limits
from ..models import QueueState, TaskLog
from ..monitoring import get_workers
from ..options import PRIORITIES
from ..pausing import is_paused

#: The queue of those who name none.
USUAL = "default"


def enqueue_for(
    user: Any,
    method: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    job_name: str,
    timeout: int,
    beside: str = "",
) -> TaskLog:
    """Store a task that acts as ``user`` before all others that wait, and return it.

    Not in the queue ``beside`` if another one is served. A queue that is too full takes it
    all the same: it is meant to make room.
    """
    with beyond_limits():
        task: TaskLog = enqueue(
            method,
            queue=_served_queue(beside),
            job_name=job_name,
            arguments=arguments,
            at_front=True,
            priority=PRIORITIES[-1],
            timeout=timeout,
            created_by=user,
        )
    return task


def _served_queue(beside: str) -> str:
    """Return a queue that a live worker serves and nobody has paused, as far as there is one."""
    live = [worker for worker in get_workers() if worker.state == "live"]
    served = {queue for worker in live for queue in worker.queues}
    now = dialect.now(conf.DATABASE)
    paused = {one.name for one in QueueState.objects.all() if is_paused(one, now)}
    names = sorted(known_queues(), key=lambda name: (name == beside, name != USUAL))
    open_ones = [name for name in names if name not in paused]
    at_work = [name for name in open_ones if name in served]
    waiting = [name for name in names if name in served]
    return next(iter([*at_work, *waiting, *open_ones, *names]))
