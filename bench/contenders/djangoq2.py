"""django-q2, with its queue in the database or on Redis."""

from __future__ import annotations

from functools import partial

from django_q.tasks import async_task

enqueue = partial(async_task, "bench.bodies.noop")
