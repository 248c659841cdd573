"""Bounds how long a statement waits for rows that another transaction holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.db import OperationalError, connections, models

from .brief import brief, returned_bound

#: "Lock wait is over" as PostgreSQL and MariaDB name it.
_POSTGRESQL, _MARIADB = "55P03", 1205


#: Seconds that a thread waits which others rely on.
LONGEST = 1.0


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


@contextmanager
def impatient(using: str) -> Iterator[None]:
    """Raise LockWaitOver when a statement of this thread waits longer than ``LONGEST``.

    For the threads of a worker's main process: what they wait for may be held by a request
    that has all of its life in one transaction, and whoever relies on them would wait too.
    They try again at their next tick. Nothing is set for longer than a transaction.
    """
    with connections[using].execute_wrapper(_Impatience()):
        yield


class _Impatience:
    """Wraps each statement of a connection."""

    def __init__(self) -> None:
        #: The transaction in which the longest wait is set.
        self._bounded: Any = None

    def __call__(
        self,
        execute: Any,
        sql: str,
        params: Any,
        many: bool,  # noqa: FBT001 - Django's signature
        context: Any,
    ) -> Any:
        connection = context["connection"]
        locks = not sql.lstrip().startswith("SELECT") or "FOR UPDATE" in sql
        try:
            if connection.vendor == "mysql" and locks:
                return execute(_with_bound(sql), params, many, context)
            if connection.vendor != "postgresql":
                return execute(sql, params, many, context)
            if connection.in_atomic_block:
                self._bind(connection, sql)
                return execute(sql, params, many, context)
            with brief() if locks else nullcontext():
                if locks:
                    self._bind(connection, sql)
                return execute(sql, params, many, context)
        except OperationalError as error:
            if _is_over(connection, error):
                raise LockWaitOver(sql[:120]) from error
            raise

    def _bind(self, connection: Any, sql: str) -> None:
        """Set it at the first statement of a transaction, which may bring it itself."""
        whole = connection.atomic_blocks[0]
        if whole is self._bounded:
            return
        self._bounded = whole
        if OWN_BOUND not in sql:
            with connection.wrap_database_errors:  # past Django, which counts statements
                connection.connection.execute(f"SELECT {OWN_BOUND}")


#: What sets it on PostgreSQL.
OWN_BOUND = f"SET_CONFIG('lock_timeout', '{round(LONGEST * 1000)}ms', true)"


class Patience(models.Func):
    """A condition that is true and sets the longest wait, before the row is waited for."""

    template = f"{OWN_BOUND} IS NOT NULL"

    def __init__(self) -> None:
        super().__init__(output_field=models.BooleanField())


def patience(using: str) -> tuple[Patience, ...]:
    """Return what the first statement of a swift transaction asks for, if it is impatient."""
    connection = connections[using]
    impatient = any(isinstance(one, _Impatience) for one in connection.execute_wrappers)
    return (Patience(),) if impatient and connection.vendor == "postgresql" else ()


def _with_bound(sql: str) -> str:
    """Return a statement for MariaDB that has it for itself."""
    own = f"SET STATEMENT innodb_lock_wait_timeout = {round(LONGEST)}"
    sql = sql.lstrip()
    if sql.startswith("SET STATEMENT "):
        return sql.replace("SET STATEMENT ", f"{own}, ", 1)
    return f"{own} FOR {sql}"


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
