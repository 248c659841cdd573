"""What a body left open, broke or still holds, so that it keeps no end from being written."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any

from django.db import Error as DatabaseError, connections

from . import sessions
from .exceptions import TransactionLeftOpen

#: What MariaDB says with most answers: a transaction is open; none is opened unasked.
_IN_TRANSACTION, _AUTOCOMMIT = 1, 2


def standing() -> dict[Any, Any]:
    """Return how each session stands before a body; None where a transaction is open."""
    return {
        connection: None if _is_left(connection) else sessions.state(connection)
        for connection in connections.all(initialized_only=True)
        if connection.connection is not None
    }


def roll_back_what_is_open(before: Mapping[Any, Any] | None = None) -> None:
    """Close every connection with a transaction in it; the next query opens a new one.

    So is a session that is otherwise than it was opened: one whose driver is without its
    autocommit, for which the end of a task is the beginning of a transaction. ``before``:
    how the sessions of a caller stood, who may have transactions of his own in them.
    """
    theirs = before or {}
    for connection in connections.all(initialized_only=True):
        was = theirs.get(connection)
        if connection in theirs and was is None:
            continue
        if _is_left(connection) or sessions.is_spoilt(connection, was):
            # Within an atomic block Django only notes that it is to be closed.
            connection.in_atomic_block = connection.closed_in_transaction = False
            close(connection)
    sessions.remember()


def refuse_what_is_open(*, but: Collection[str] = ()) -> None:
    """Raise TransactionLeftOpen if a connection has a transaction open, of Django's or not.

    ``but``: the aliases of databases of which somebody else asks.
    """
    for connection in connections.all(initialized_only=True):
        if connection.alias not in but and _is_open(connection):
            raise TransactionLeftOpen(connection.alias)


def _is_left(connection: Any) -> bool:
    """Return whether what is written next would not be committed by itself."""
    left_open = _is_open(connection) or connection.needs_rollback
    return bool(left_open or not connection.autocommit)


def _is_open(connection: Any) -> bool:
    """Django knows of the blocks that it has opened itself, the driver of every BEGIN."""
    if connection.in_atomic_block:
        return True
    with suppress(Exception):  # the driver's own errors; it may be broken
        return connection.connection is not None and _driver_says_open(connection)
    return False


def _driver_says_open(connection: Any) -> bool:
    raw = connection.connection
    match connection.vendor:
        case "postgresql":
            return raw.info.transaction_status.name not in {"IDLE", "UNKNOWN"}
        case "sqlite":
            return bool(raw.in_transaction)
        case "mysql":
            return _mariadb_says_open(raw)
    return False


def _mariadb_says_open(raw: Any) -> bool:
    """Ask, where a statement of any kind may have opened one, or the driver tells nothing."""
    status = getattr(raw, "server_status", None)
    if status is not None and status & (_IN_TRANSACTION | _AUTOCOMMIT):
        return bool(status & _IN_TRANSACTION)
    with raw.cursor() as cursor:
        cursor.execute("SELECT @@in_transaction")
        return bool(cursor.fetchone()[0])


def close(connection: Any) -> None:
    """End the transaction and close; Django forgets the connection in any case.

    To close alone is not enough: SQLite keeps a closed connection, with its transaction and
    its lock, as long as a variable or a traceback holds a cursor of it. Some drivers refuse
    to close what the body closed. A pool would give the session to the next who asks.
    """
    if connection.connection is not None:
        with suppress(Exception):  # the driver's own errors; it may be broken
            connection.connection.rollback()
            if getattr(connection, "pool", None):
                connection.connection.close()
    with suppress(DatabaseError):
        connection.close()


def let_go_of_memory(error: BaseException) -> None:
    """Drop what the functions that ``error`` has left hold, if it says that memory ran out.

    Its traceback keeps their local variables, and to write an end takes some memory too.
    """
    errors = list(_with_causes(error))
    if any(isinstance(one, MemoryError) for one in errors):
        for one in errors:
            traceback.clear_frames(one.__traceback__)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [more for more in (one.__cause__, one.__context__) if more]
