"""Plain Celery with its defaults: prefork, Redis, no result backend."""

from __future__ import annotations

import os

from celery import Celery

from bench import bodies

app = Celery("plain", broker=os.environ.get("BROKER_URL"))
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True


@app.task(name="plain.noop")
def noop(asked_at: float = 0.0) -> None:
    """The body."""
    bodies.noop(asked_at)
