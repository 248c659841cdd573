"""Steps and consumer of a worker's main process, which outlive outages of the broker."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer

logger = logging.getLogger("taskcontrol")

DEFAULT_CONSUMER = "celery.worker.consumer:Consumer"


class SoonBack(Consumer):
    """Celery's consumer, which after an outage of the broker is back within seconds.

    By itself it would wait longer with each failure, up to half a minute in the end.
    """

    longest_pause = 4

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, trying again every few seconds."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_max=self.longest_pause
        )
        return super().ensure_connected(conn)

    def on_connection_error_after_connected(self, exc: Any) -> None:
        """Let go of the lost connection, whatever that throws.

        A message that was taken and not yet acknowledged is given back while the connection
        closes; on one that is lost already this fails in ways that would end the worker.
        """
        try:
            super().on_connection_error_after_connected(exc)
        except Exception as error:  # noqa: BLE001 - kombu throws AttributeError and others
            logger.warning("The lost connection to the broker was not closed: %r", error)
            self.connection = None


class PoolCare(bootsteps.StartStopStep):
    """Has the pool looked after four times a second.

    Celery learns of a dead child from a pipe that is ready before the child can be waited
    for, then looks again only after five seconds (celery issue 9588).
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self.timer: Any = None

    def start(self, parent: Any) -> None:
        """Begin with each connection to the broker."""
        if hasattr(parent.pool, "maintain_pool"):
            self.timer = parent.timer.call_repeatedly(0.25, parent.pool.maintain_pool)

    def stop(self, parent: Any) -> None:
        """End with the connection."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
