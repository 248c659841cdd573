"""dramatiq on Redis."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench import bodies

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))


@dramatiq.actor
def noop(asked_at: float) -> None:
    """The body."""
    bodies.noop(asked_at)


enqueue = noop.send
