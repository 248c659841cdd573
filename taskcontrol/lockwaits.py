"""Bounds how long a statement waits for rows that another transaction holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connections

from .brief import returned_bound

#: "Lock wait is over" as PostgreSQL and MariaDB name it.
_POSTGRESQL, _MARIADB = "55P03", 1205


class LockWaitOver(Exception):
    """The rows were not free in time; the caller's transaction can only be rolled back."""


@contextmanager
def at_most(seconds: float, using: str) -> Iterator[None]:
    """Raise LockWaitOver when a statement inside waits longer than ``seconds``.

    Call it in a transaction. SQLite has one lock for all writers and bounds every wait
    for it by the option ``timeout`` of its connection.
    """
    connection = connections[using]
    before = _set(connection, seconds)
    try:
        yield
    except OperationalError as error:
        if _is_over(connection, error):
            raise LockWaitOver from error
        raise
    finally:
        with connection.wrap_database_errors:  # a connection may be lost just here
            _put_back(connection, before)


def _set(connection: Any, seconds: float) -> Any:
    """Set the longest wait, and return what it was before."""
    if connection.vendor == "postgresql":
        both = "current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
        both += returned_bound(connection.alias)
        return _ask(connection, f"SELECT {both}", [f"{max(1, round(seconds * 1000))}ms"])
    if connection.vendor == "mysql":
        before = _ask(connection, "SELECT @@innodb_lock_wait_timeout", [])
        with connection.cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = %s", [max(1, round(seconds))])
        return before
    return None


def _put_back(connection: Any, before: Any) -> None:
    """Set what was before, past Django, which runs nothing in a transaction that failed."""
    raw = connection.connection
    if raw is None:
        return
    if connection.vendor == "postgresql" and raw.info.transaction_status.name == "INTRANS":
        # After an error the rollback does it.
        raw.execute("SELECT set_config('lock_timeout', %s, true)", [before])
    elif connection.vendor == "mysql":
        with raw.cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = %s", [before])


def _is_over(connection: Any, error: OperationalError) -> bool:
    if connection.vendor == "postgresql":
        return getattr(error.__cause__, "sqlstate", None) == _POSTGRESQL
    return connection.vendor == "mysql" and error.args[:1] == (_MARIADB,)


def _ask(connection: Any, sql: str, given: list[Any]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, given)
        return cursor.fetchone()[0]
