"""The row of a lock that is held here: extended by a thread, deleted when nobody needs it."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any
from weakref import WeakValueDictionary

from django.db import Error as DatabaseError, connections, transaction

from .conf import conf
from .dialect import DatabaseNow
from .models import Lock, seconds
from .side import side_database

logger = logging.getLogger("taskcontrol")

#: Seconds to wait for a thread of this process that is about to delete its row.
LONGEST_FAREWELL = 10

#: The possessions of this process, by their tokens.
_here: WeakValueDictionary[uuid.UUID, Possession] = WeakValueDictionary()


class Possession:
    """A row that is ours as long as a block, or an open transaction, needs it."""

    def __init__(self, key: str, ttl: int, token: uuid.UUID, since: float) -> None:
        self.key, self.ttl, self.token = key, ttl, token
        #: By this process's clock, until when it is certainly ours.
        self._sure_until = since + ttl
        self._gone = False
        self._alias = side_database()
        self._needs: set[int] = set()
        #: Ends the thread; True if that is to delete the row.
        self._farewell: queue.SimpleQueue[bool] = queue.SimpleQueue()
        #: The block that runs; None between two blocks of one transaction.
        self.block: Need | None = Need(self)
        _here[token] = self
        self._thread = threading.Thread(
            target=self._extend_until_farewell, name=f"taskcontrol-lock-{key}", daemon=True
        )
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether somebody else may hold it by now; asks no database."""
        return self._gone or time.monotonic() > self._sure_until

    def rows(self, alias: str | None = None) -> Any:
        """Return the row, if it is still ours, in the lock's own connection or another."""
        rows = Lock.objects.using(alias or self._alias)
        return rows.filter(key=self.key, token=self.token)

    def note_loss(self) -> None:
        """Know from now on that somebody else may hold it."""
        self._gone = True

    def resume(self, ttl: int) -> bool:
        """Begin another block in the transaction that still needs the row."""
        if self.block is not None or self.lost:
            return False
        self.ttl = max(self.ttl, ttl)
        self.block = Need(self)
        self._extend()
        return not self.lost

    def end_block(self) -> bool:
        """Let others have it; False when it was lost before.

        Within a transaction that happens when that has ended, by commit or by rollback:
        until then nobody else could see what it guarded.
        """
        block, self.block = self.block, None
        if block is None:
            return False
        home = conf.DATABASE
        if self._alias != home and _in_real_transaction(home):
            self._extend()
            transaction.on_commit(block, using=home)
            return not self.lost
        return block()

    def drop(self, need: int) -> None:
        """Forget a need whose transaction was rolled back; the thread deletes the row.

        Called wherever Python frees the need, so it asks no database and takes no lock.
        """
        self._needs.discard(need)
        if not self._needs:
            self._farewell.put(True)  # noqa: FBT003

    def end(self, need: int) -> bool:
        """Forget a need; delete the row if it was the last. False when it was lost before."""
        self._needs.discard(need)
        if self._needs:
            return not self.lost
        self._farewell.put(False)  # noqa: FBT003
        return self._delete(self._alias)

    def add(self, need: int) -> None:
        """Keep the row for one more."""
        self._needs.add(need)

    def wait_for_farewell(self) -> bool:
        """Wait until the thread has deleted a row that nobody needs; False if it is needed."""
        if self._needs:
            return False
        self._thread.join(LONGEST_FAREWELL)
        return not self._thread.is_alive()

    def _delete(self, alias: str) -> bool:
        if connections[alias].needs_rollback:
            return not self.lost  # SQLite: the row was made in what is rolled back
        try:
            return bool(self.rows(alias).delete()[0])
        except DatabaseError as error:
            logger.warning(
                "The lock %r was not released and is free in %s s: %s",
                self.key,
                self.ttl,
                error,
            )
            return not self.lost

    def _extend_until_farewell(self) -> None:
        try:
            while not self._bidden_farewell(self.ttl / 3):
                if not self._gone:
                    self._extend()
        finally:
            connections.close_all()

    def _bidden_farewell(self, timeout: float) -> bool:
        try:
            if self._farewell.get(timeout=timeout):
                self._delete(side_database())
        except queue.Empty:
            return False
        return True

    def _extend(self) -> None:
        began = time.monotonic()
        try:
            expires = DatabaseNow() + seconds(self.ttl)
            if self.rows(side_database()).update(expires_at=expires):
                self._sure_until = began + self.ttl
            elif self._needs:
                self._gone = True
                logger.warning("The lock %r was lost: this process overslept.", self.key)
        except Exception:
            logger.exception("The lock %r was not extended; it is tried again.", self.key)
            connections.close_all()


class Need:
    """A need for the row: of a block, and after it of the transaction round it.

    ``on_commit`` keeps it. A commit calls it; a rollback, also to a savepoint, forgets it.
    """

    def __init__(self, possession: Possession) -> None:
        self.possession = possession
        possession.add(id(self))
        self._over = False

    def __call__(self) -> bool:
        self._over = True
        return self.possession.end(id(self))

    def __del__(self) -> None:
        if not self._over:
            self.possession.drop(id(self))


def needed_by_this_transaction(key: str) -> Possession | None:
    """Return the lock of this name that waits for the end of the transaction open here."""
    for need in _needs_of_this_transaction():
        if need.possession.key == key:
            return need.possession
    return None


def has_left(token: uuid.UUID) -> bool:
    """Return whether a row was one of this process, which needs it no more; it is gone now."""
    possession = _here.get(token)
    return possession is not None and possession.wait_for_farewell()


def _needs_of_this_transaction() -> Iterator[Need]:
    connection: Any = connections[conf.DATABASE]
    for _, call, *_ in connection.run_on_commit:
        if isinstance(call, Need):
            yield call


def _in_real_transaction(alias: str) -> bool:
    """Return whether a transaction is open that is not just the one around a test."""
    connection: Any = connections[alias]
    blocks = getattr(connection, "atomic_blocks", [])
    return connection.in_atomic_block and not all(
        getattr(block, "_from_testcase", False) for block in blocks
    )
