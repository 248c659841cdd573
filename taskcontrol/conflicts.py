"""Tells which errors pass when the same is simply done again, and how often that is tried."""

from __future__ import annotations

import sqlite3

from django.db import Error as DatabaseError

from .exceptions import Retry

#: Seconds before each run in place; as many as there are, so often at most.
PAUSES: tuple[float, ...] = (1, 2, 3, 4, 5)

#: Serialization failure, deadlock, lock timeout, by the codes of the SQL standard and of
#: PostgreSQL.
SQL_STATES = frozenset({"40001", "40P01", "55P03"})
#: Deadlock and lock timeout, by MariaDB's numbers.
MARIADB_NUMBERS = frozenset({1213, 1205})
#: "database is locked" and "database table is locked", by SQLite's numbers.
SQLITE_NUMBERS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

_MARIADB_DRIVERS = frozenset({"MySQLdb", "mysql", "pymysql"})


def is_conflict(error: BaseException) -> bool:
    """Return whether ``error`` is a deadlock, a serialization failure or a lock timeout.

    Also when the driver's own error was raised past Django.
    """
    told = error
    if isinstance(error, DatabaseError) and error.__cause__ is not None:
        told = error.__cause__
    state = getattr(told, "sqlstate", None) or getattr(told, "pgcode", None)
    if state in SQL_STATES:
        return True
    if isinstance(told, sqlite3.OperationalError):
        # The lower byte is the kind, the upper ones say more.
        return getattr(told, "sqlite_errorcode", 0) & 0xFF in SQLITE_NUMBERS
    of_mariadb = type(told).__module__.partition(".")[0] in _MARIADB_DRIVERS
    return of_mariadb and not MARIADB_NUMBERS.isdisjoint(told.args[:1])


def passes(error: BaseException) -> bool:
    """Return whether ``error`` calls for another run of the body in place."""
    return (isinstance(error, Retry) and error.delay is None) or is_conflict(error)
