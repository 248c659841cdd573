"""Reads the lines: the first row of each, and the first rows of some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import connections

from .conf import conf
from .dialect import DatabaseNow, compile_sql, together
from .models import QueueState, TaskLog, TaskType


class Head(NamedTuple):
    """The first ready row of a lane, with its type's and its queue's state."""

    lane: int
    task_id: int
    at_front: bool
    position: int
    batch_order: int
    #: Whether another stands behind it.
    more: bool
    method: str
    queue: str
    #: What the task says itself; None = as its type does.
    priority: int | None
    #: The key of its type; None while nobody has inserted that.
    kind: int | None
    usual_priority: int | None
    concurrency_limit: int | None
    usual_seconds: float | None
    #: Whether the type or the queue is paused.
    held: bool
    rate: str | None
    #: Whether its type says that no body begins again when it was lost.
    once: bool

    @property
    def urgency(self) -> int:
        """Its priority, of its own or its type's."""
        return (self.usual_priority or 0) if self.priority is None else self.priority


def read_heads() -> list[Head]:
    """Return the first ready row of each lane with its type's and queue's state."""
    (rows,) = together(conf.DATABASE, [heads_statement()])
    return [Head(*row) for row in rows]


def heads_statement() -> tuple[str, list[Any]]:
    """Return the SELECT of ``read_heads``.

    The recursion jumps from lane to lane in the index, so the cost follows the number
    of lanes with work and never the backlog.
    """
    tasks, types, queues = _tables()
    now = compile_sql(DatabaseNow(), conf.DATABASE)[0]
    sql = f"""
        WITH RECURSIVE lanes (lane) AS (
            SELECT MIN(ready_lane) FROM {tasks} WHERE ready_lane IS NOT NULL
            UNION ALL
            SELECT (SELECT MIN(t.ready_lane) FROM {tasks} t WHERE t.ready_lane > lanes.lane)
            FROM lanes WHERE lanes.lane IS NOT NULL
        ),
        heads (id, second) AS (
            SELECT (
                SELECT h.id FROM {tasks} h WHERE h.ready_lane = lanes.lane
                ORDER BY {_ORDER} LIMIT 1
            ), (
                -- Not EXISTS, for which the planner may read the whole table.
                SELECT h.id FROM {tasks} h WHERE h.ready_lane = lanes.lane
                ORDER BY {_ORDER} LIMIT 1 OFFSET 1
            )
            FROM lanes WHERE lanes.lane IS NOT NULL
        )
        SELECT head.ready_lane, head.id, head.at_front, head.position, head.batch_order,
               CASE WHEN heads.second IS NULL THEN 0 ELSE 1 END AS more,
               head.method, head.queue, head.priority,
               kind.id AS kind, kind.priority AS usual_priority,
               -- Until a child has looked into the code, the limit may be any.
               CASE WHEN kind.declared IS NULL THEN 1 ELSE kind.concurrency_limit END
                   AS concurrency_limit,
               kind.usual_seconds,
               CASE WHEN {_paused("kind", now)} OR {_paused("line", now)}
                    THEN 1 ELSE 0 END AS held,
               -- More than is ever sent: what is sent until then shall count too.
               CASE WHEN kind.declared IS NULL THEN '1000000/d' ELSE kind.rate_limit END
                   AS rate,
               CASE WHEN kind.declared IS NULL OR kind.on_lost = 'fail'
                    THEN 1 ELSE 0 END AS once
        FROM heads
        JOIN {tasks} head ON head.id = heads.id
        LEFT JOIN {types} kind ON kind.method = head.method
        LEFT JOIN {queues} line ON line.name = head.queue
    """  # noqa: S608 - table names come from our models
    return sql, []


def _tables() -> tuple[str, str, str]:
    return TaskLog._meta.db_table, TaskType._meta.db_table, QueueState._meta.db_table


def _paused(table: str, now: str) -> str:
    until = f"{table}.paused_until"
    return f"({table}.paused_at IS NOT NULL AND ({until} IS NULL OR {until} > {now}))"


_FRONT = "id, ready_lane, at_front, position, batch_order"
_ORDER = "at_front DESC, position, batch_order, id"


def first_rows(wanted: Iterable[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """Return the first ``count`` rows of each (lane, count), in the order of promotion.

    Each is (key, lane, at_front, position, batch_order).
    """
    using, tasks = conf.DATABASE, TaskLog._meta.db_table
    wanted = list(wanted)
    if connections[using].vendor == "postgresql":
        return _lateral_fronts(using, tasks, wanted)
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(wanted), 100):
        rows += _union_fronts(using, tasks, wanted[start : start + 100])
    return rows


def _lateral_fronts(
    using: str, tasks: str, wanted: list[tuple[int, int]]
) -> list[tuple[Any, ...]]:
    sql = f"""
        SELECT front.* FROM UNNEST(%s::bigint[], %s::int[]) AS want (lane, count)
        JOIN LATERAL (
            SELECT {_FRONT} FROM {tasks} t WHERE t.ready_lane = want.lane
            ORDER BY {_ORDER} LIMIT want.count
        ) front ON TRUE
    """  # noqa: S608 - table and column names are ours
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [[lane for lane, _ in wanted], [n for _, n in wanted]])
        return list(cursor.fetchall())


def _union_fronts(
    using: str, tasks: str, wanted: list[tuple[int, int]]
) -> list[tuple[Any, ...]]:
    one = (
        f"SELECT * FROM (SELECT {_FRONT} FROM {tasks} WHERE ready_lane = %s "  # noqa: S608
        f"ORDER BY {_ORDER} LIMIT %s) front"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(" UNION ALL ".join([one] * len(wanted)), sum(wanted, ()))
        return list(cursor.fetchall())
