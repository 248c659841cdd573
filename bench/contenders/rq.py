"""rq on Redis."""

from __future__ import annotations

import os
from collections.abc import Iterable

from redis import Redis
from rq import Queue

from bench import bodies

queue = Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))


def enqueue(asked_at: float) -> None:
    """Ask for one."""
    queue.enqueue(bodies.noop, asked_at)


def enqueue_many(times: Iterable[float]) -> None:
    """Ask for many in one pipeline."""
    queue.enqueue_many([Queue.prepare_data(bodies.noop, (one,)) for one in times])
