"""Fills the ledger of a PostgreSQL with any number of rows, as years of use would."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import connection

from taskcontrol.conf import conf
from taskcontrol.models import TaskLog

#: Of a hundred rows so many have ended; the newest wait.
ENDED = 95

#: How the columns of row ``n`` differ from those of the row that all are copied from.
USED = {
    "method": "'bench.bodies.m' || n % 100",
    "job_name": "'row ' || n",
    "status": "stands",
    "queue": "(ARRAY['default', 'short', 'long'])[n % 3 + 1]",
    "queued_at": "CASE WHEN stands <> 'Pending' THEN NOW() END",
    "started_at": "CASE WHEN stands <> 'Pending' THEN NOW() END",
    # Younger than anything that retention takes, whatever ``n`` is.
    "ended_at": "CASE WHEN stands <> 'Pending' THEN NOW() - n % 600 * INTERVAL '1 hour' END",
    "position": "n",
    "lane": "n % 100",
    "ready_lane": "CASE WHEN stands = 'Pending' THEN n % 100 END",
    "attempt": "CASE WHEN stands = 'Pending' THEN 0 ELSE 1 END",
    "celery_task_id": "CASE WHEN stands <> 'Pending' THEN 'celery-' || n END",
    "job_id": "CASE WHEN n % 4 = 0 THEN 'job-' || n WHEN n % 4 = 1 THEN 'hourly' END",
    "batch_id": "CASE WHEN n % 10 = 0 THEN 'batch-' || n / 1000 END",
}
NUMBERED = """(
    SELECT n, CASE
        WHEN n * 100 > %(number)s::bigint * %(ended)s THEN 'Pending' WHEN n % 50 = 0 THEN 'Failed'
        WHEN n % 50 = 1 THEN 'Canceled' ELSE 'Finished' END AS stands
    FROM GENERATE_SERIES(1, %(number)s) n
) AS numbers""".replace(" % ", " %% ")
OLD = {
    "status": "'Finished'",
    "started_at": "NOW()",
    "ended_at": "NOW() - n * INTERVAL '1 minute' - INTERVAL '400 days'",
    "ready_lane": "NULL",
}


def fill(number: int, **different: str) -> None:
    """Empty the ledger and store ``number`` rows, the newest of them with the highest key.

    ``different``: more columns whose value in row ``n`` is such an expression.
    """
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE taskcontrol_tasklog, taskcontrol_taskkey")
    add(number, ended=ENDED, **different)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE taskcontrol_tasklog")


def add(number: int, *, ended: int, **different: str) -> None:
    """Store ``number`` rows more, of which so many in a hundred have ended."""
    if not number:
        return
    if not TaskLog.objects.exists():
        TaskLog(job_name="model", method="bench.bodies.noop", lane=0).save(
            using=conf.DATABASE
        )
        number -= 1
    _copy({**USED, **different}, NUMBERED, number=number, ended=ended)


def make_old(number: int) -> None:
    """Store tasks of one type that ended long ago."""
    _copy(OLD, "GENERATE_SERIES(1, %(number)s) AS n", number=number)


def _copy(different: Mapping[str, str], source: str, **given: int) -> None:
    fields = [field for field in TaskLog._meta.concrete_fields if not field.primary_key]
    columns = [str(field.column) for field in fields]
    values = [
        different.get(column, f"model.{column}").replace(" % ", " %% ")
        for column in columns
    ]
    statement = (
        f"INSERT INTO taskcontrol_tasklog ({', '.join(columns)}) "  # noqa: S608 - all ours
        f"SELECT {', '.join(values)} FROM {source}, taskcontrol_tasklog AS model "
        "WHERE model.id = (SELECT MIN(id) FROM taskcontrol_tasklog)"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
