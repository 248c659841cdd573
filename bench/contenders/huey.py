"""huey on Redis."""

from __future__ import annotations

import os

from huey import RedisHuey

from bench import bodies

queue = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)


@queue.task()
def noop(asked_at: float) -> None:
    """The body."""
    bodies.noop(asked_at)


enqueue = noop
