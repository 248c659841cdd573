"""Celery with its results in the database of Django."""

from __future__ import annotations

from celery import Celery

from bench import bodies

app = Celery("results")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="results.noop")
def noop(asked_at: float = 0.0) -> None:
    """The body."""
    bodies.noop(asked_at)


enqueue = noop.delay
