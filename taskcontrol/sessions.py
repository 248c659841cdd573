"""How each session of a database was when it was opened: what a body makes of it stays with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from django.db import connections
from django.db.backends.signals import connection_created

#: What PostgreSQL tells of a session by itself, and answers are read by.
TOLD = ("DateStyle", "IntervalStyle", "TimeZone", "client_encoding")
#: What the drivers let anybody set. Without their autocommit an end is never committed; rows of
#: another shape cannot be read.
SET = {
    "postgresql": ("autocommit", "row_factory", "cursor_factory"),
    "sqlite": ("isolation_level", "row_factory", "text_factory"),
    "mysql": ("cursorclass", "encoding"),
}


class Opened(NamedTuple):
    """How a session was when it was opened, which is how the site wants it."""

    state: Any
    wrappers: list[Any]


_opened: WeakKeyDictionary[Any, Opened] = WeakKeyDictionary()


def remember() -> None:
    """Remember how sessions are, those that are there and those that will be opened.

    Call it outside of bodies. Not compared with what Django would make of a session, since a
    site may want it otherwise: each would be closed again and again.
    """
    _listen()
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and connection not in _opened:
            _remember(connection)


@cache
def _listen() -> None:
    """Begin late, behind the receivers with which a site sets its sessions up."""
    connection_created.connect(_remember, dispatch_uid="taskcontrol.sessions")


def _remember(connection: Any, **_signal: Any) -> None:
    _opened[connection] = Opened(state(connection), [*connection.execute_wrappers])


def is_spoilt(connection: Any, before: Any = None) -> bool:
    """Return whether a session is otherwise than it was opened; asks only the driver.

    ``before``: its ``state`` at another time, with which it is compared instead.
    """
    opened = _opened.get(connection)
    if before is None and opened is not None:
        before = opened.state
    if before is None or connection.connection is None:
        return False
    return bool(state(connection) != before)


def state(connection: Any) -> Any:
    """Return what can be told of a session without a statement; None where nothing can."""
    raw, vendor = connection.connection, connection.vendor
    try:
        told: list[Any] = [getattr(raw, name, None) for name in SET.get(vendor, ())]
        if vendor == "postgresql":
            told += [raw.info.parameter_status(name) for name in TOLD]
        if vendor == "mysql":
            told.append(bool(raw.get_autocommit()))
    except Exception:  # noqa: BLE001 - the driver's own errors; it may be broken
        return None
    return told


@contextmanager
def wrappers_kept() -> Iterator[None]:
    """Put the wrappers of queries back as they were; one that a body leaves meets all others.

    A session that the block opens keeps those that it was opened with: the site's own.
    """
    _listen()
    before = {
        connection: (_opened.get(connection), [*connection.execute_wrappers])
        for connection in connections.all(initialized_only=True)
    }
    try:
        yield
    finally:
        for connection in connections.all(initialized_only=True):
            opened, wrappers = before.get(connection, (None, None))
            now = _opened.get(connection)
            if now is not None and now is not opened:
                wrappers = now.wrappers
            if wrappers is not None:
                connection.execute_wrappers[:] = wrappers
