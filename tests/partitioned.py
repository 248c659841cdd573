"""Lets any tests run on a ledger in partitions: ``pytest -p tests.partitioned`` on PostgreSQL.

The statements are those of ``docs/scale.md``, so that the page is tried too.
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.scale.partitions import CONVERT, MONTH, TURN, of_month

#: The months before the one in which the tests run have partitions too, which are empty.
MONTHS = ("2026_11", "2026_12", "2027_01", "2027_02")
NOW = "2027_01"


def _partition() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(of_month(CONVERT, MONTHS[0]))
        for month in MONTHS:
            cursor.execute(of_month(MONTH, month))
        cursor.execute(of_month(TURN, NOW))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: Any) -> None:
    """Convert the table between its migrations and the referee, whose triggers it has to get."""
    from tests import refereeing

    install = refereeing.install

    def convert_first() -> None:
        _partition()
        install()

    refereeing.install = convert_first
