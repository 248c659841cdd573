"""Counts what a list matches, by columns and up to a bound, in one statement."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections

from ..conf import conf


def count_by(rows: Any, *columns: str, most: int) -> Counter[tuple[Any, ...]]:
    """Return how many ``rows`` have which values; of more than ``most``, one more in all."""
    few = rows.values_list(*columns)[: most + 1]
    try:
        sql, params = few.query.get_compiler(conf.DATABASE).as_sql()
    except EmptyResultSet:
        return Counter()
    names = ", ".join(columns)
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(
            f"SELECT {names}, COUNT(*) FROM ({sql}) few GROUP BY {names}",  # noqa: S608 - Django wrote it
            params,
        )
        return Counter({tuple(values): number for *values, number in cursor.fetchall()})
