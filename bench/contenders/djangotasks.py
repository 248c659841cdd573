"""The tasks of Django 6 with the backend that keeps them in the database."""

from __future__ import annotations

from django_tasks import task

from bench import bodies


@task()
def noop(asked_at: float) -> None:
    """The body."""
    bodies.noop(asked_at)


enqueue = noop.enqueue
