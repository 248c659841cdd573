"""Pokes the live pages when tasks changed; costs next to nothing while nobody watches."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

from django.db import transaction

from . import bell
from .conf import conf

logger = logging.getLogger("taskcontrol")

#: Where the keys of changed tasks are published, and where somebody who watches says so.
CHANNEL = "taskcontrol:changed"
WATCHED = "taskcontrol:watched"
#: Seconds for which a process believes what it heard of watchers. A page that opens in
#: between looks into the database itself once a second.
ASK_EVERY = 1.0
#: Seconds that Redis has for an answer: only the thread of the pokes waits for it.
_TIMEOUT = 1.0
#: Seconds without a poke after one that failed.
_BREAK_SECONDS = 2.0
#: Keys in one message.
_PAGE = 1000
#: What stands before the key of a user who logged out.
OUT = "out:"


def poke_after_commit(tasks: Iterable[Any]) -> None:
    """Say after the commit, or now, that these tasks changed.

    Never blocks and never fails: a thread of this process tells it. A poke may be lost.
    """
    if not _poker().sleeps():
        poked = partial(poke, [task.pk for task in tasks])
        transaction.on_commit(poked, using=conf.DATABASE, robust=True)


def poke(task_ids: Collection[int]) -> None:
    """Say now that these tasks changed, and have been committed."""
    poker = _poker()
    if task_ids and not poker.sleeps():
        poker.wake(changed=task_ids)


def part_from(user_id: Any) -> None:
    """Say now that somebody logged out, so that his open pages are asked again who they are."""
    _poker().wake(gone=[user_id])


class _Poker:
    """The thread of one process that publishes, if anybody watches."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._asleep_until = 0.0
        self._awake_until = 0.0
        self._changed: set[int] = set()
        self._gone: set[Any] = set()
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def sleeps(self) -> bool:
        return time.monotonic() < self._asleep_until

    def wake(self, *, changed: Collection[int] = (), gone: Collection[Any] = ()) -> None:
        if bell.redis_url() is None:
            self._asleep_until = float("inf")
            return
        with self._lock:
            self._changed.update(changed)
            self._gone.update(gone)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="taskcontrol-pokes", daemon=True
                )
                self._thread.start()
        self._wanted.set()

    def _serve(self) -> None:
        client = None
        while True:
            self._wanted.wait()
            self._wanted.clear()
            messages = self._take()
            try:
                client = client or bell.connect(timeout=_TIMEOUT)
                if client is not None and self._watched(client):
                    for message in messages:
                        client.publish(CHANNEL, message)
            except Exception as error:  # noqa: BLE001 - watchers look for themselves
                logger.debug("Live pages were not poked: %s", error)
                client = None
                self._asleep_until = time.monotonic() + _BREAK_SECONDS

    def _take(self) -> list[str]:
        """Return what is to be published, as texts."""
        with self._lock:
            changed, self._changed = sorted(self._changed), set()
            gone, self._gone = self._gone, set()
        pages = (changed[at : at + _PAGE] for at in range(0, len(changed), _PAGE))
        return [f"{OUT}{key}" for key in gone] + [
            ",".join(map(str, page)) for page in pages
        ]

    def _watched(self, client: Any) -> bool:
        if time.monotonic() < self._awake_until:
            return True
        watched = bool(client.exists(WATCHED))
        until = time.monotonic() + ASK_EVERY
        if watched:
            self._awake_until = until
        else:
            self._asleep_until = until
        return watched


_current: _Poker | None = None


def _poker() -> _Poker:
    """Return the poker of this process: after a fork the parent's thread is not here."""
    global _current
    if _current is None or _current.pid != os.getpid():
        _current = _Poker()
    return _current
