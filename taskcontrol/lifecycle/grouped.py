"""Ends of many tasks in one statement, each with values of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import connections

from ..brief import returned_bound
from ..conf import conf
from ..models import TaskLog


class Ran(NamedTuple):
    """A body that has returned; sorts by its task."""

    task_id: int
    attempt: int
    pid: int
    #: When it began, and when it ended, by the monotonic clock.
    began: float
    ended: float
    time_taken: float
    peak_memory_usage: int
    debug_log: str
    result: Any
    progress: Any

    def passed(self, now: float) -> tuple[float, float]:
        """Return the seconds since it began, and since it ended."""
        return max(now - self.began, 0.0), max(now - self.ended, 0.0)

    def told(self) -> dict[str, Any]:
        """Return the columns that its end tells, for a move of this one alone."""
        return {
            "time_taken": timedelta(seconds=self.time_taken),
            "peak_memory_usage": self.peak_memory_usage,
            "debug_log": self.debug_log,
            "result": self.result,
            **({} if self.progress is None else {"progress": self.progress}),
        }


# Rows are locked in the order of their keys, and looked at as they are then. Text that is
# bound once costs a third of ten arrays.
_FINISH = """
    WITH ran AS (
        SELECT * FROM json_to_recordset(%s::json) AS ran (
            i bigint, a integer, p integer, b float8, e float8, t float8, m bigint,
            l text, r jsonb, g jsonb
        )
    ), mine AS (
        SELECT task.id, task.status AS was FROM {tasks} task JOIN ran ON ran.i = task.id AND ran.a = task.attempt
        WHERE task.status IN (%s, %s) AND task.worker_id = %s AND NOT task.heard
        ORDER BY task.id FOR UPDATE OF task
    )
    UPDATE {tasks} AS task SET
        status = %s,
        rev = task.rev + 1,
        started_at = COALESCE(task.started_at,
            GREATEST(task.queued_at, STATEMENT_TIMESTAMP() - ran.b * interval '1 second')),
        pid = COALESCE(task.pid, ran.p),
        ended_at = GREATEST(task.queued_at, task.started_at,
            STATEMENT_TIMESTAMP() - ran.e * interval '1 second'),
        occupies = FALSE,
        time_taken = ran.t * interval '1 second',
        peak_memory_usage = ran.m,
        debug_log = ran.l,
        result = ran.r,
        progress = COALESCE(ran.g, task.progress)
    FROM ran JOIN mine ON mine.id = ran.i
    WHERE task.id = ran.i
    RETURNING task.id, task.rev, mine.was
"""


def time_to_count_back() -> float:
    """Return the monotonic time now, from which a statement that goes at once counts back.

    The connection is opened first: what that takes would be missing in what has passed by
    the database's clock, and the body would seem to have begun or ended later.
    """
    connections[conf.DATABASE].ensure_connection()
    return time.monotonic()


class Moved:
    """A task that was moved, as much as its news have to know."""

    heard = False

    def __init__(self, pk: int, rev: int) -> None:
        self.pk, self.rev = pk, rev


def finish_many(
    ran: Sequence[Ran], worker_id: int | None, queued: str, started: str, to: str
) -> dict[str, list[Moved]]:
    """Write the ends in one statement of PostgreSQL; return those that moved, by what was."""
    using = conf.DATABASE
    now = time_to_count_back()
    rows = [
        dict(zip("iapbetmlrg", (*one[:3], *one.passed(now), *one[5:]), strict=True))
        for one in ran
    ]
    sql = _FINISH.format(tasks=TaskLog._meta.db_table) + returned_bound(using)
    with connections[using].cursor() as cursor:
        cursor.execute(sql, [json.dumps(rows), queued, started, worker_id, to])
        found: dict[str, list[Moved]] = {queued: [], started: []}
        for task_id, rev, was, *_ in cursor.fetchall():
            found[was].append(Moved(task_id, rev))
        return found
