"""The only file that asks Celery for something: send messages, signal, look at queues."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery import current_app
from kombu import pools
from kombu.exceptions import OperationalError

from . import crashpoints
from .conf import conf
from .exceptions import BrokerUnavailable

logger = logging.getLogger("taskcontrol")

#: Names under which ``tasks.py`` registers the Celery tasks.
RUN = "taskcontrol.run"
DELIVER = "taskcontrol.deliver"
SCHEDULES = "taskcontrol.schedules"
#: The task of the rows of django-celery-beat that are schedules of ours.
ENQUEUE = "taskcontrol.enqueue"

#: Seconds in which a worker is to answer a ping.
PING_TIMEOUT = 2.0

#: Everything that kombu's transports raise when the broker is away or too slow.
UNREACHABLE = (OperationalError, OSError, TimeoutError, ConnectionError)


@dataclass(frozen=True)
class Message:
    """What Celery carries for one attempt: no arguments, nothing secret."""

    task_id: int
    attempt: int
    queue: str
    celery_task_id: str
    timeout: float


def publish(messages: Sequence[Message]) -> None:
    """Send ``messages`` in one batch, or raise BrokerUnavailable within seconds.

    After an error some may have been sent. That is harmless: a worker claims the row
    under its attempt, and who does not win the claim does not run.
    """
    if not messages:
        return
    amqp = current_app.amqp
    try:
        with (
            current_app.producer_or_acquire() as producer,
            producer.batch(max_size=max(4 * len(messages), 1)),
        ):
            for message in messages:
                amqp.send_task_message(
                    producer,
                    RUN,
                    _celery_message(amqp, message),
                    queue=message.queue,
                    retry=False,
                )
                crashpoints.reached("publish.prepared")
    except UNREACHABLE as error:
        raise _unavailable(error) from error
    except Exception as error:
        # A transport may raise errors of its own library: redis.exceptions, amqp.exceptions.
        if not _is_transport_error(error):
            raise
        raise _unavailable(error) from error


def _celery_message(amqp: Any, message: Message) -> Any:
    return amqp.create_task_message(
        message.celery_task_id,
        RUN,
        (message.task_id, message.attempt),
        {},
        soft_time_limit=message.timeout,
        time_limit=message.timeout + conf.CANCEL_GRACE,
        ignore_result=True,
        argsrepr="",
        kwargsrepr="",
    )


def send(name: str, *, queue: str, expires: float) -> None:
    """Send a message for one of our own Celery tasks; raise BrokerUnavailable if that fails."""
    try:
        current_app.send_task(
            name, queue=queue, expires=expires, ignore_result=True, retry=False
        )
    except Exception as error:
        if not isinstance(error, UNREACHABLE) and not _is_transport_error(error):
            raise
        raise _unavailable(error) from error


def ping(hostname: str) -> float | None:
    """Return the seconds in which a worker answered; None when it did not in time.

    Raises BrokerUnavailable.
    """
    asked_at = time.monotonic()
    try:
        answers = current_app.control.ping([hostname], timeout=PING_TIMEOUT, limit=1)
    except Exception as error:
        if not isinstance(error, UNREACHABLE) and not _is_transport_error(error):
            raise
        raise _unavailable(error) from error
    return time.monotonic() - asked_at if answers else None


@contextmanager
def looking() -> Iterator[Any]:
    """Give the block a channel of the broker, of its own; raise BrokerUnavailable.

    As ``messages.py`` uses it nothing is consumed.
    """
    try:
        with current_app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, timeout=conf.BROKER_TIMEOUT)
            yield connection.default_channel
    except Exception as error:
        if not isinstance(error, UNREACHABLE) and not _is_transport_error(error):
            raise
        raise _unavailable(error) from error


def check() -> None:
    """Raise BrokerUnavailable unless the broker answers within seconds."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=conf.BROKER_TIMEOUT)
            connection.default_channel.close()
    except Exception as error:
        if not isinstance(error, UNREACHABLE) and not _is_transport_error(error):
            raise
        raise _unavailable(error) from error
    forget_connections()


def _unavailable(error: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(f"{type(error).__name__}: {error}")


def _is_transport_error(error: Exception) -> bool:
    home = type(error).__module__.partition(".")[0]
    return home in {"redis", "valkey", "amqp", "kombu", "botocore"}


def forget_connections() -> None:
    """Drop pooled connections, which a broken one may have poisoned."""
    # Dropped and not closed: kombu keeps pools by address, and a closed one never opens
    # again; and another thread may be in the middle of sending.
    pools.producers.clear()
    pools.connections.clear()
    current_app.amqp._producer_pool = None  # noqa: SLF001 - Celery has no other way
    current_app._pool = None  # noqa: SLF001
