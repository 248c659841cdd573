"""Watches in which order a connection locks rows: the order of ARCHITECTURE.md, "Locks"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

#: Who holds rows of one of these may wait for rows of a later one, and for no earlier ones.
ORDER = (
    "taskcontrol_dispatcherstate",
    "taskcontrol_schedule",
    "taskcontrol_taskkey",
    "taskcontrol_tasklog",
    "taskcontrol_taskbatch",
)
_LOCKS = re.compile(
    r"""\s*(?:SET\ STATEMENT\ .*?\ FOR\ )?
    (?: UPDATE\ [`"](?P<updated>\w+)
      | DELETE\ FROM\ [`"](?P<deleted>\w+)
      | INSERT\ INTO\ [`"](?P<taken>\w+).*\ ON\ (?:CONFLICT|DUPLICATE)\b
      | SELECT\b.*?\ FROM\ [`"](?P<locked>\w+).*\ FOR\ UPDATE )""",
    re.VERBOSE | re.DOTALL,
)
#: A lock that is not waited for.
_SKIPS = re.compile(r"FOR UPDATE.* (SKIP LOCKED|NOWAIT)")
_SEVERAL = re.compile(
    r"WHERE (?!.*ORDER BY (?:1|\S*\bid[`\"]?) ASC).*\bid[`\"]? IN \((?!%s\))", re.DOTALL
)


class WrongOrder(AssertionError):
    """Somebody waits for rows although he holds some that come later."""


class Watch:
    """A wrapper of ``execute`` that follows the locks of one transaction after another."""

    def __init__(self) -> None:
        self._transaction: Any = None
        self._held: dict[str, str] = {}
        #: The tables that were locked, in order, per transaction that locked any.
        self.seen: list[tuple[str, ...]] = []

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        found = _LOCKS.match(_without_brackets(sql))
        table = next(filter(None, found.groups()), "") if found else ""
        if table in ORDER:
            self._lock(table, sql, context["connection"])
        return execute(sql, params, many, context)

    def _lock(self, table: str, sql: str, connection: Any) -> None:
        outermost = connection.atomic_blocks[0] if connection.atomic_blocks else object()
        if outermost is not self._transaction:
            self._transaction, self._held = outermost, {}
            self.seen.append(())
        if table not in self._held:
            self._check(table, sql)
            self._held[table] = sql
            self.seen[-1] += (table,)

    def _check(self, table: str, sql: str) -> None:
        if _SKIPS.search(sql):
            return
        later = [one for one in self._held if ORDER.index(one) > ORDER.index(table)]
        if later:
            raise WrongOrder(f"{later} before {table}: {self._held[later[0]]}\nthen {sql}")
        if table == "taskcontrol_tasklog" and _SEVERAL.search(sql):
            raise WrongOrder(f"several tasks are locked in no order: {sql}")


def _without_brackets(sql: str) -> str:
    """What stands in brackets is read and not locked."""
    count = 1
    while count:
        sql, count = re.subn(r"\([^()]*\)", "", sql)
    return sql


@contextmanager
def watched(using: str = "default") -> Iterator[Watch]:
    """Raise WrongOrder in the block when a statement locks in another order."""
    watch = Watch()
    with connections[using].execute_wrapper(watch):
        yield watch
