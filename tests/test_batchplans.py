"""What is asked about batches is found by an index, among many tasks and many batches."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import batches, settling
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.settling import settle_batches
from tests import tasks
from tests.factories import seconds_ago
from tests.test_indexes import many_rows  # noqa: F401 - a fixture

pytestmark = [pytest.mark.django_db, pytest.mark.only_on("postgresql")]

BATCHES = 5_000
#: One of a hundred small batches, and one to which a third of all tasks belong.
SMALL, BIG = "batch-30", "big"


@pytest.fixture(scope="module")
def many_batches(many_rows, django_db_blocker):  # noqa: F811 - a fixture
    """Most batches ended long ago; some are open, a few of these held back or paused."""
    hold = {"on_failure": "hold", "open_since": seconds_ago(50)}
    rows = [TaskBatch(id=f"old-{n}", ended_at=seconds_ago(n)) for n in range(BATCHES)]
    rows += [
        TaskBatch(id=f"batch-{n}", open_since=seconds_ago(n)) for n in range(40, 1000, 10)
    ]
    rows += [
        TaskBatch(id="batch-0", paused_at=seconds_ago(9), open_since=seconds_ago(60)),
        *[TaskBatch(id=key, **hold) for key in ("batch-10", "batch-20", SMALL, BIG)],
    ]
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        TaskBatch.objects.bulk_create(rows)
        cursor.execute("ANALYZE taskcontrol_taskbatch")
        yield
        TaskBatch.objects.all().delete()
        cursor.execute("ANALYZE taskcontrol_taskbatch")


def member(batch_id: str) -> TaskLog:
    return TaskLog.objects.filter(batch_id=batch_id, status="Pending").earliest("pk")


#: What asks about batches.
ASKS = {
    "settle": settle_batches,
    "hold back": lambda: settling.hold_back(SMALL),
    "hold back many": lambda: settling.hold_back(BIG),
    "pause": lambda: taskcontrol.pause_batch(SMALL),
    "pause many": lambda: taskcontrol.pause_batch(BIG),
    "resume": lambda: (taskcontrol.pause_batch(SMALL), taskcontrol.resume_batch(SMALL)),
    "retry": lambda: taskcontrol.retry_batch(SMALL, canceled=True),
    "retry many": lambda: taskcontrol.retry_batch(BIG),
    "cancel": lambda: taskcontrol.cancel_batch(SMALL),
    "cancel many": lambda: taskcontrol.cancel_batch(BIG),
    "progress": lambda: batches.progress(SMALL),
    "counts": lambda: batches.counts_of(TaskBatch.objects.filter(id__startswith="batch-1")),
    "explain": lambda: taskcontrol.explain(member(BIG)),
    "enqueue": lambda: taskcontrol.enqueue(tasks.nothing, batch_id=SMALL),
    "bulk": lambda: taskcontrol.bulk_enqueue([{"method": tasks.nothing}], batch_id=SMALL),
}


@pytest.mark.parametrize("name", ASKS)
def test_no_question_about_a_batch_reads_a_whole_table(many_batches, name):
    with CaptureQueriesContext(connection) as queries:
        ASKS[name]()

    asked = {
        re.sub(r"\d+", "0", query["sql"]): query["sql"]
        for query in queries
        if query["sql"].startswith(("SELECT", "UPDATE"))
        and re.search(r"taskcontrol_task(log|batch)", query["sql"])
    }
    assert asked
    for sql in asked.values():
        assert (
            read_whole(sql) & {"taskcontrol_tasklog", "taskcontrol_taskbatch"} == set()
        ), sql


def read_whole(sql: str) -> set[str]:
    """Return the tables that the database would read from their start to their end."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        ((plans,),) = cursor.fetchall()
    plans = json.loads(plans) if isinstance(plans, str) else plans
    return scanned(plans[0]["Plan"])


def scanned(plan: dict) -> set[str]:
    whole = plan["Node Type"].endswith("Seq Scan")
    found = {plan["Relation Name"]} if whole else set()
    return found.union(*(scanned(child) for child in plan.get("Plans", ())))


def test_a_whole_read_is_seen(many_batches):
    assert read_whole(
        "SELECT COUNT(*) FROM taskcontrol_tasklog WHERE event = 'x' OR id > 5"
    )
