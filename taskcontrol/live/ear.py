"""Hears by Redis which tasks changed, and says there that somebody watches."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Protocol

from .. import bell
from ..pokes import CHANNEL, OUT, WATCHED

logger = logging.getLogger("taskcontrol")

#: Seconds between two words that somebody watches, and for which one holds.
SAY_EVERY = 2.0
SAID_FOR = 6
#: Seconds before Redis is tried again after it went.
PAUSE = 2.0


class Hearer(Protocol):
    """Who is told."""

    def changed(self, task_ids: list[int]) -> None:
        """Take the keys of tasks that changed."""

    def part_from(self, user_key: str) -> None:
        """Take the key of a user who logged out, as a text."""


def listen(hearer: Hearer, stopped: threading.Event) -> None:
    """Tell ``hearer`` every poke until ``stopped``; without Redis do nothing."""
    if bell.redis_url() is None:
        return
    while not stopped.is_set():
        try:
            _listen(hearer, stopped)
        except Exception as error:  # noqa: BLE001 - the rows are read every second anyway
            logger.debug("No pokes from Redis: %s", error)
            stopped.wait(PAUSE)


def _listen(hearer: Hearer, stopped: threading.Event) -> None:
    client = bell.connect(timeout=5.0)
    channel = client.pubsub(ignore_subscribe_messages=True)
    try:
        channel.subscribe(CHANNEL)
        said_at = float("-inf")
        while not stopped.is_set():
            if time.monotonic() >= said_at + SAY_EVERY:
                client.set(WATCHED, 1, ex=SAID_FOR)
                said_at = time.monotonic()
            message = channel.get_message(timeout=1.0)
            if message:
                _tell(hearer, message["data"].decode())
    finally:
        channel.close()
        client.close()


def _tell(hearer: Any, said: str) -> None:
    if said.startswith(OUT):
        hearer.part_from(said.removeprefix(OUT))
    else:
        hearer.changed([int(key) for key in said.split(",")])
