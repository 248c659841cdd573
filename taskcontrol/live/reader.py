"""One thread of a web process that reads for all its open pages, from the rows alone.

A poke says which tasks changed and only makes it quick. Once a second everything that is
watched is read anyway, so that a page shows the truth without Redis and after every loss.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any

from django.db import close_old_connections, connections

from ..pokes import part_from
from .ear import listen
from .reading import Reading
from .watching import Watch

logger = logging.getLogger("taskcontrol")

#: Seconds between two readings while pokes rain.
GAP = 0.02


class Reader:
    """Reads what the watches of this process ask for, and leaves it in their mailboxes."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._new: list[Watch] = []
        self._changed: set[int] = set()
        self._wanted = threading.Event()
        #: Whether the last reading failed, so that it is logged once and not every second.
        self._failing = False
        self._thread: threading.Thread | None = None

    def join(self, watch: Watch) -> None:
        """Tell ``watch`` the present state of what it asks for, and then every change."""
        with self._lock:
            self._watches.add(watch)
            self._new.append(watch)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="taskcontrol-live", daemon=True
                )
                self._thread.start()
        self._wanted.set()

    def leave(self, watch: Watch) -> None:
        """Tell ``watch`` nothing more."""
        with self._lock:
            self._watches.discard(watch)

    def streams(self) -> int:
        """Return how many streams are open here."""
        return len(self._watches)

    def streams_of(self, user_id: Any) -> int:
        """Return how many streams of one person, or of all without a login, are open here."""
        with self._lock:
            return sum(watch.asked.user_id == user_id for watch in self._watches)

    def changed(self, task_ids: Iterable[int]) -> None:
        """Take a poke."""
        with self._lock:
            self._changed.update(task_ids)
        self._wanted.set()

    def part_from(self, user_key: str) -> None:
        """Close the streams of somebody who logged out somewhere; a key may be a UUID."""
        with self._lock:
            theirs = [one for one in self._watches if str(one.asked.user_id) == user_key]
        for watch in theirs:
            watch.close()

    def _serve(self) -> None:
        stopped = threading.Event()
        threading.Thread(
            target=listen, args=(self, stopped), name="taskcontrol-ear", daemon=True
        ).start()
        reading = Reading()
        try:
            while not self._over():
                self._wanted.wait(reading.pause())
                self._wanted.clear()
                self._read(reading)
                time.sleep(GAP)
        finally:
            stopped.set()
            connections.close_all()

    def _over(self) -> bool:
        """Return whether nobody watches any more: this thread ends, a later one may begin."""
        with self._lock:
            if not self._watches:
                self._thread = None
                self._changed.clear()
            return not self._watches

    def _read(self, reading: Reading) -> None:
        with self._lock:
            watches = list(self._watches)
            new, self._new = [watch for watch in self._new if watch in self._watches], []
            changed, self._changed = self._changed, set()
        try:
            reading.read(watches, new, changed)
        except Exception as error:  # noqa: BLE001 - the next reading sees all of it again
            if not self._failing:
                logger.warning("Live pages are told nothing for now: %r", error)
            self._failing = True
            connections.close_all()
            reading.start_over()
            with self._lock:
                self._new[:0] = new
                self._changed |= changed
        else:
            self._failing = False
            close_old_connections()


_reader: Reader | None = None
_making = threading.Lock()


def reader() -> Reader:
    """Return the reader of this process; a forked server process makes its own."""
    global _reader
    with _making:
        if _reader is None or _reader.pid != os.getpid():
            _reader = Reader()
        return _reader


def close_streams(user: Any = None, **_signal: Any) -> None:
    """End the streams of somebody who logs out, here and in every other process."""
    if user is not None and user.pk is not None:
        reader().part_from(str(user.pk))
        part_from(user.pk)
