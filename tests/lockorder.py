"""Watches in which order a connection locks rows: the order of ARCHITECTURE.md, "Locks"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections

TASKS, KEYS = "taskcontrol_tasklog", "taskcontrol_taskkey"
QUEUES = "taskcontrol_queuestate"
#: Who holds rows of one of these may wait for rows of a later one, and for no earlier ones.
ORDER = (
    "taskcontrol_dispatcherstate",
    "taskcontrol_worker",
    "taskcontrol_schedule",
    "taskcontrol_tasktype",
    QUEUES,
    KEYS,
    TASKS,
    "taskcontrol_taskbatch",
    "taskcontrol_waitinterval",
    "taskcontrol_incident",
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
_COLUMNS = re.compile(r"INSERT INTO \S+ \(([^)]*)\)")

#: What tells the rows of a table apart, in the order in which they are to be locked.
Row = tuple[Any, ...]


class WrongOrder(AssertionError):
    """Somebody waits for rows although he holds some that come later."""


class Watch:
    """A wrapper of ``execute`` that follows the locks of one transaction after another."""

    def __init__(self) -> None:
        self._transaction: Any = None
        #: The rows that are held, and the statement that locked the first, by table.
        self._held: dict[str, tuple[set[Row], str]] = {}
        #: The tables that were locked, in order, per transaction that locked any.
        self.seen: list[tuple[str, ...]] = []

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        found = _LOCKS.match(_without_brackets(sql))
        table = next(filter(None, found.groups()), "") if found else ""
        if table in ORDER:
            self._lock(table, sql, params or (), context["connection"])
        return execute(sql, params, many, context)

    def _lock(self, table: str, sql: str, params: Sequence[Any], connection: Any) -> None:
        outermost = connection.atomic_blocks[0] if connection.atomic_blocks else object()
        if outermost is not self._transaction:
            self._transaction, self._held = outermost, {}
            self.seen.append(())
        held, first = self._held.get(table, (set[Row](), sql))
        new = _rows(table, sql, params, connection) - held
        if table not in self._held:
            self.seen[-1] += (table,)
            if table == TASKS and not _SKIPS.search(sql) and _SEVERAL.search(sql):
                raise WrongOrder(f"several tasks are locked in no order: {sql}")
        if new and not _SKIPS.search(sql):
            self._check(table, new, held, sql)
        self._held[table] = held | new, first

    def _check(self, table: str, new: set[Row], held: set[Row], sql: str) -> None:
        later = [one for one in self._held if ORDER.index(one) > ORDER.index(table)]
        if later:
            first = self._held[later[0]][1]
            raise WrongOrder(f"{later} before {table} {sorted(new)}: {first}\nthen {sql}")
        if held and min(new) < max(held):
            raise WrongOrder(f"{table} {sorted(held)} before {sorted(new)}: {sql}")


def _rows(table: str, sql: str, params: Sequence[Any], connection: Any) -> set[Row]:
    """Return the rows that a statement is about to lock; keys of deduplication by their kind."""
    if table == ORDER[0]:
        return {(1,)}
    if sql.lstrip().startswith("INSERT"):
        return _taken(sql, params)
    head, where = _halves(sql)
    names = {KEYS: ("slot", "key"), QUEUES: ("name",)}.get(table, ("id",))
    quote = connection.ops.quote_name
    query = f"SELECT {', '.join(map(quote, names))} FROM {quote(table)}"
    if where:
        query += f" WHERE {where}"
    with connection.connection.cursor() as cursor:  # past Django, which counts statements
        cursor.execute(query, tuple(params)[head.count("%s") :] or None)
        return {_named(table, row) for row in cursor.fetchall()}


def _taken(sql: str, params: Sequence[Any]) -> set[Row]:
    """Return the keys that an INSERT takes, whether there are rows of them or not."""
    found = _COLUMNS.match(sql.lstrip())
    assert found, sql
    columns = re.findall(r"\w+", found[1])
    if "slot" not in columns:
        return set()
    if isinstance(params[0], list):
        values = list(zip(*params, strict=True))
    else:
        step = len(columns)
        values = [tuple(params[n : n + step]) for n in range(0, len(params), step)]
    slot, key = columns.index("slot"), columns.index("key")
    return {_named(KEYS, (row[slot], row[key])) for row in values}


def _named(table: str, row: Row) -> Row:
    """Both slots of a job's key count as its first, whose lock is that of both."""
    return (max(0, row[0] - 1), row[1]) if table == KEYS else tuple(row)


def _halves(sql: str) -> tuple[str, str]:
    """Return what stands before a statement's own WHERE and the condition, none of a part's."""
    depth, head = 0, 0
    for found in re.finditer(r"[()]| WHERE |\s(?:RETURNING|FOR UPDATE)\b", sql):
        if found[0] in "()":
            depth += 1 if found[0] == "(" else -1
        elif not depth and found[0] == " WHERE ":
            head = found.end()
        elif not depth and head:
            return sql[:head], sql[head : found.start()]
    return (sql[:head], sql[head:]) if head else (sql, "")


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
