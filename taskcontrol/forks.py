"""Keeps a worker's threads out of SQLite while its pool forks a child."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from .conf import conf


class DatabaseWork:
    """Pieces of work of one thread of a worker's main process.

    SQLite keeps its locks in the memory of the process. A child forked in the middle of a
    thread's transaction inherits a lock that nobody in it will ever free, and every write
    of the child fails. So on SQLite a fork waits for the end of the piece, and between
    pieces no connection is open.
    """

    _all: list[DatabaseWork] = []

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._all.append(self)

    @contextmanager
    def piece(self) -> Iterator[None]:
        """Do one piece of work inside the block."""
        if connections[conf.DATABASE].vendor != "sqlite":
            yield
            return
        with self.lock:
            try:
                yield
            finally:
                connections.close_all()

    @classmethod
    def before_fork(cls) -> None:
        """Wait for the end of every piece."""
        for work in cls._all:
            work.lock.acquire()

    @classmethod
    def after_fork(cls) -> None:
        """Let the threads go on; in the child they do not exist, but their locks do."""
        for work in cls._all:
            work.lock.release()


os.register_at_fork(
    before=DatabaseWork.before_fork,
    after_in_parent=DatabaseWork.after_fork,
    after_in_child=DatabaseWork.after_fork,
)
