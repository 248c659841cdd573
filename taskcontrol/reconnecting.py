"""Steps and consumer of a worker's main process, which outlive what the broker does to them."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from celery import bootsteps, signals
from celery.worker.consumer import Consumer

logger = logging.getLogger("taskcontrol")

DEFAULT_CONSUMER = "celery.worker.consumer:Consumer"


#: What kombu and Celery throw when they read a message that nobody of theirs has written.
SPOILT = (TypeError, ValueError, LookupError, AttributeError)


class SoonBack(Consumer):
    """Celery's consumer, which after an outage of the broker is back within seconds.

    By itself it would wait longer with each failure, up to half a minute in the end; and
    a single spoilt message would end the worker (kombu issue 2421).
    """

    longest_pause = 4
    loop: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.loop = partial(_outliving_spoilt_messages, self.loop)

    def create_task_handler(self, *args: Any, **options: Any) -> Any:
        """Reject a message that cannot be read: given back, it would come again for ever."""
        handle = super().create_task_handler(*args, **options)

        def on_task_received(message: Any) -> Any:
            try:
                return handle(message)
            except SPOILT as error:
                return self._reject(message, error)

        return on_task_received

    def _reject(self, message: Any, error: Exception) -> None:
        logger.error("A message was spoilt on its way and is dropped: %r", error)
        message.reject_log_error(logger, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=error)

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


def _outliving_spoilt_messages(loop: Any, *args: Any) -> None:
    """Run the event loop; what was read and makes no sense costs a new connection at most.

    It is out of its queue by then, and what was lost with it is sent again.
    """
    try:
        loop(*args)
    except SPOILT as error:
        logger.exception("The worker stumbled over a message and connects again.")
        raise ConnectionError(f"a message could not be read: {error!r}") from error


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
