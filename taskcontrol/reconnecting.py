"""Steps and consumer of a worker's main process, which outlive what the broker does to them."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import bootsteps, signals
from celery.worker.consumer import Consumer

logger = logging.getLogger("taskcontrol")

DEFAULT_CONSUMER = "celery.worker.consumer:Consumer"


#: What kombu and Celery throw when they read a message that nobody of theirs has written.
SPOILT = (TypeError, ValueError, LookupError, AttributeError)


class SoonBack(Consumer):
    """Celery's consumer, which after an outage of the broker is back within seconds.

    By itself it would wait longer with each failure, up to half a minute in the end; and
    a single spoilt message would end the worker (kombu issue 2421), as would the death of one
    child before the event loop has begun.
    """

    longest_pause = 4
    loop: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.loop = partial(_sturdy, self.loop)

    def start(self) -> None:
        """Connect, and run the event loop until the worker ends."""
        replace_from_the_start(self.pool)
        super().start()

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


def _sturdy(loop: Any, consumer: Any, *args: Any) -> None:
    """Run the event loop; what goes wrong there costs a new connection at most.

    A message that makes no sense is out of its queue by then, and what was lost with it is
    sent again. A pool of which no child is left is not able to start, and ends the worker.
    """
    try:
        loop(consumer, *args)
    except SPOILT as error:
        logger.exception("The worker stumbled over a message and connects again.")
        raise ConnectionError(f"a message could not be read: {error!r}") from error
    except WorkerLostError as error:
        if not consumer.pool.info["processes"]:
            raise
        logger.warning("A child died before the worker was ready, and is replaced.")
        raise ConnectionError("a child died before the event loop began") from error


def replace_from_the_start(pool: Any) -> None:
    """Let a pool replace a child that dies before the event loop begins.

    Until then nobody frees the pipes of a dead child, and the pool finds none for the next:
    "StopIteration" ends the worker, where its connection to the broker is lost meanwhile.
    """
    processes: Any = getattr(pool, "_pool", None)
    if getattr(processes, "on_process_down", pool) is None:
        processes.on_process_down = lambda _process: None


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
