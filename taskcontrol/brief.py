"""Transactions of ours alone: who sleeps in one loses it, with all that it has locked."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from django.db import InternalError, OperationalError, connections, models, transaction

from .conf import conf

#: What PostgreSQL says to who comes too late.
_TOO_LONG_IDLE = "25P03"


class Overslept(OperationalError):
    """The database has rolled this transaction back and closed its connection meanwhile."""


class Brief(transaction.Atomic):
    """A transaction of a few statements, between which no code of the project runs.

    A process that sleeps, or that the network has lost, would keep its locks for as long as
    its connection seems to stand, which may be hours, and every sweep would pass over what
    it holds. This one bounds at its beginning how long it may do nothing. Within a
    transaction that somebody else has opened it is a savepoint like any other, and how long
    that one lasts is his to say.
    """

    def __init__(self, using: str, *, savepoint: bool, alone: bool, swift: bool) -> None:
        super().__init__(using, savepoint, durable=False)
        self._alias = using
        #: False while it runs other code, for which it waits as long as that takes.
        self.alone = alone
        #: Whether the statements that lock rows bring the bound, which costs none: ``bounds``.
        self.swift = swift
        #: Whether the bound is set.
        self.bound = False

    def __enter__(self) -> Brief:  # type: ignore[override]
        super().__enter__()
        if not self.swift and connections[self._alias].atomic_blocks[:1] == [self]:
            try:
                self._bind()
            except BaseException:
                super().__exit__(*sys.exc_info())
                raise
        return self

    def _bind(self) -> None:
        connection: Any = connections[self._alias]
        for bound in bounds(self._alias):
            with connection.wrap_database_errors:  # past Django, which counts statements
                connection.connection.execute(f"SELECT {bound.template}")
            self.bound = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit or roll back; raises Overslept where the database has done that already."""
        try:
            super().__exit__(kind, error, trace)
        except InternalError as late:
            _tell_if_overslept(late)
            raise
        _tell_if_overslept(error)


def _tell_if_overslept(error: BaseException | None) -> None:
    """Say it as an error that passes, which the driver's own does not seem to be."""
    code = getattr(getattr(error, "__cause__", None), "sqlstate", None)
    if isinstance(error, InternalError) and code == _TOO_LONG_IDLE:
        raise Overslept(str(error)) from error


def brief(*, savepoint: bool = True, alone: bool = True, swift: bool = False) -> Brief:
    """Return a Brief of the tasks' database; the options of ``transaction.atomic``.

    ``swift`` is for what every task costs, and only where the first statement that locks
    rows selects ``bounds``.
    """
    return Brief(conf.DATABASE, savepoint=savepoint, alone=alone, swift=swift)


def within_another(using: str) -> bool:
    """Return whether a transaction is open that is not just the one around a test."""
    blocks: Any = connections[using].atomic_blocks
    return bool(blocks) and not blocks[-1]._from_testcase  # noqa: SLF001 - as Django asks


class IdleBound(models.Func):
    """Lets PostgreSQL end this connection when its transaction does nothing for so long."""

    def __init__(self, milliseconds: int) -> None:
        setting = "'idle_in_transaction_session_timeout'"
        self.template = f"SET_CONFIG({setting}, '{milliseconds}ms', true)"
        super().__init__(output_field=models.TextField())


def bounds(using: str) -> tuple[IdleBound, ...]:
    """Return what a statement that locks rows selects besides: the bound, in a swift Brief.

    It is half of the time after which a worker is lost. Only PostgreSQL has one.
    """
    connection: Any = connections[using]
    blocks = connection.atomic_blocks
    if connection.vendor != "postgresql" or not blocks or not connection.commit_on_exit:
        return ()
    outermost = blocks[0]
    if not isinstance(outermost, Brief) or not outermost.alone or outermost.bound:
        return ()
    return (IdleBound(max(1, round(conf.WORKER_LOST_AFTER * 500))),)


def returned_bound(using: str) -> str:
    """Return the same for the end of a RETURNING clause; empty outside of a Brief."""
    return "".join(f", {bound.template} AS bound" for bound in bounds(using))
