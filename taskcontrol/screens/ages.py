"""Finds the first task since some time by halving the keys, which grow with the time."""

from __future__ import annotations

from typing import Any

from django.db import connections
from django.db.models.sql import Query

from ..conf import conf
from ..dialect import DatabaseNow, compile_sql
from ..models import TaskLog, seconds

_SQL = """
WITH RECURSIVE half (low, high) AS (
    SELECT COALESCE(MIN(id), 0), COALESCE(MAX(id), 0) + 1 FROM {tasks}
    UNION ALL
    SELECT CASE WHEN {older} THEN {middle} + 1 ELSE half.low END,
           CASE WHEN {older} THEN half.high ELSE {middle} END
    FROM half WHERE half.low < half.high
)
SELECT half.low FROM half WHERE half.low >= half.high
"""
_MIDDLE = "((half.low + half.high) >> 1)"
#: Whether the task in the middle, or the next one, is older.
_OLDER = (
    "(SELECT t.created_at FROM {tasks} t WHERE t.id >= {middle} ORDER BY t.id LIMIT 1)"
    " < {since}"
)


def first_since(age: float) -> int:
    """Return the smallest key of a task created in the last ``age`` seconds.

    One statement of some twenty probes of the primary key, however many tasks there are:
    the time of creation has no index of its own, which each insert would have to feed.
    """
    then: Any = DatabaseNow() - seconds(age)
    since, params = compile_sql(then.resolve_expression(Query(TaskLog)), conf.DATABASE)
    names = {"tasks": TaskLog._meta.db_table, "middle": _MIDDLE}
    older = _OLDER.format(since=since, **names)
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(_SQL.format(older=older, **names), [*params, *params])
        return int(cursor.fetchone()[0])
