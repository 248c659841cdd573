"""Celery as far as settings go: no emulation of acknowledgments, many messages ahead."""

from __future__ import annotations

from collections.abc import Iterable

from bench.contenders.plain import app, noop

app.conf.broker_transport_options = {"ack_emulation": False}
app.conf.worker_prefetch_multiplier = 32

enqueue = noop.delay


def enqueue_many(times: Iterable[float]) -> None:
    """Ask for many over one connection that is held."""
    with app.producer_pool.acquire(block=True) as producer:
        for one in times:
            noop.apply_async((one,), producer=producer)
