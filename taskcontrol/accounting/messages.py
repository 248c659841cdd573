"""What waits in the broker, read there without taking it: our messages, and what is none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .. import broker

#: Messages that are read of one list, those that are taken next.
MOST_READ = 2000
#: Numbers that a row can have.
MOST_TASK, MOST_ATTEMPT = 2**63 - 1, 2**31 - 1


@dataclass(frozen=True)
class Waiting:
    """One message in the broker that asks a worker to run a task, or cannot be read."""

    queue: str
    #: (task, attempt); None when it does not say.
    key: tuple[int, int] | None
    #: As the dispatcher names it: site, task, attempt.
    celery_task_id: str = ""
    #: Whether a worker has taken it out of its queue, and not acknowledged it yet.
    taken: bool = False
    #: Why it cannot be read.
    trouble: str = ""
    #: The list that holds it, and what it is there.
    place: tuple[str, bytes] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reading:
    """The messages of one moment."""

    messages: list[Waiting]
    #: Why there may be others, as a sentence; empty when these are all.
    unread: str = ""


def read(queues: Iterable[str]) -> Reading:
    """Return what waits in these queues, and what workers have taken and not begun.

    Only Redis shows messages without giving them away: of another transport the reading
    says so. Raises BrokerUnavailable.
    """
    with broker.looking() as channel:
        if not hasattr(channel, "_q_for_pri"):
            transport = channel.connection.client.transport_cls
            return Reading(
                [],
                f"The transport {transport!r} shows no message without giving it away, so "
                "nothing is known of what waits in the broker.",
            )
        return _read_redis(channel, sorted(queues))


def _read_redis(channel: Any, queues: list[str]) -> Reading:
    name_of = channel._q_for_pri  # noqa: SLF001 - kombu names the list of a priority nowhere else
    lists = [
        (queue, f"{channel.global_keyprefix}{name_of(queue, step)}")
        for queue in queues
        for step in channel.priority_steps
    ]
    with channel.conn_or_acquire() as client, client.pipeline(transaction=True) as pipe:
        # One moment for all: a message that moves is seen in one place.
        for _, name in lists:
            pipe.lrange(name, -MOST_READ, -1)
        unacked = f"{channel.global_keyprefix}{channel.unacked_key}"
        pipe.hscan(unacked, count=MOST_READ)
        *pages, (cursor, taken) = pipe.execute()
    found = [
        message
        for (queue, name), page in zip(lists, pages, strict=True)
        for raw in page
        for message in _in_queue(channel, queue, name, raw)
    ]
    found += [one for raw in taken.values() for one in _taken(channel, raw)]
    if cursor or any(len(page) == MOST_READ for page in pages):
        unread = (
            f"More than {MOST_READ:,} messages wait in one queue; the rest was not read."
        )
    elif not channel.ack_emulation:
        unread = "Without ack_emulation nobody sees what a worker has taken and not begun."
    else:
        unread = ""
    return Reading(found, unread)


def remove(message: Waiting) -> bool:
    """Take one message out of its queue; return whether it was still there."""
    if message.place is None:
        return False
    name, raw = message.place
    with broker.looking() as channel, channel.conn_or_acquire() as client:
        return bool(client.lrem(name, 1, raw))


def _in_queue(channel: Any, queue: str, name: str, raw: bytes) -> Iterator[Waiting]:
    place = (name, raw)
    try:
        said = _said(channel, json.loads(raw))
    except Exception as error:  # noqa: BLE001 - whatever a stranger wrote
        trouble = f"{type(error).__name__}: {error}"
        yield Waiting(queue, None, trouble=trouble, place=place)
        return
    if said is not None:
        yield Waiting(queue, *said, place=place)


def _taken(channel: Any, raw: bytes) -> Iterator[Waiting]:
    try:
        payload, _exchange, queue = json.loads(raw)
        said = _said(channel, payload)
    except Exception:  # noqa: BLE001 - the worker that took it has its own word for it
        return
    if said is not None:
        yield Waiting(str(queue), *said, taken=True)


def _said(channel: Any, payload: Any) -> tuple[tuple[int, int], str] | None:
    """Return what a message asks to run and its id; None when it is for another task."""
    message = channel.message_to_python(payload)
    headers = message.headers or {}
    if headers.get("task", broker.RUN) != broker.RUN:
        return None
    message.accept = {"application/json"}
    body: Any = message.payload
    if isinstance(body, dict):  # Celery's first protocol
        if body.get("task") != broker.RUN:
            return None
        arguments, celery_task_id = body["args"], body.get("id")
    else:
        arguments, celery_task_id = body[0], headers.get("id")
    task_id, attempt = arguments
    if not (_is_number(task_id, MOST_TASK) and _is_number(attempt, MOST_ATTEMPT)):
        raise ValueError("its arguments are no task and attempt")
    return (task_id, attempt), str(celery_task_id)


def _is_number(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
