"""procrastinate on PostgreSQL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from bench import bodies

#: Who only asks, asks without an event loop.
asks_only = not sys.argv[0].endswith("procrastinate")
Connector = SyncPsycopgConnector if asks_only else PsycopgConnector
app = App(connector=Connector(conninfo=os.environ["DATABASE_URL"]))
if asks_only:
    app.open()


@app.task(name="noop")
def noop(asked_at: float) -> None:
    """The body."""
    bodies.noop(asked_at)


def enqueue(asked_at: float) -> None:
    """Ask for one."""
    noop.defer(asked_at=asked_at)


def enqueue_many(times: Iterable[float]) -> None:
    """Ask for many by one statement."""
    noop.batch_defer(*({"asked_at": one} for one in times))
