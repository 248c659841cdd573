"""Plain Celery with its defaults: prefork, Redis, no result backend."""

from __future__ import annotations

import os
from collections.abc import Iterable

from celery import Celery, group

from bench import bodies

app = Celery("plain", broker=os.environ.get("BROKER_URL"))
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="plain.noop")
def noop(asked_at: float = 0.0) -> None:
    """The body."""
    bodies.noop(asked_at)


enqueue = noop.delay


def enqueue_many(times: Iterable[float]) -> None:
    """Ask for many by one group, Celery's own way."""
    group(noop.s(one) for one in times).apply_async()
