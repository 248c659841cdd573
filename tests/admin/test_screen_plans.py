"""Types, schedules and batches stay fast over many tasks: each query goes by an index."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol import schedules
from taskcontrol.lanes import lane_of
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.admin.conftest import list_url, page_url, text_of
from tests.factories import make_task, make_type, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.only_on("postgresql")]

ROWS = 4_000


@pytest.fixture
def many():
    """Tasks of forty types that ended long ago, and beside them those that are looked at."""
    lane = lane_of("default", "tests.tasks.nothing", None)
    began, second = seconds_ago(400_000), timedelta(seconds=1)
    TaskLog.objects.bulk_create(
        TaskLog(
            status=Status.FINISHED,
            job_name="old",
            method=f"shop.m{number % 40}",
            lane=lane,
            attempt=1,
            queued_at=began,
            started_at=began,
            ended_at=began + number * second,
            time_taken=second,
            schedule=f"s{number % 40}" if number % 4 == 0 else "",
            batch_id=f"b{number % 200}" if number % 3 == 0 else None,
        )
        for number in range(ROWS)
    )
    one = make_type("shop.m1", concurrency_limit=3)
    make_task(Status.STARTED, method="shop.m1")
    schedule = schedules.create(tasks.nothing, every=3600, name="s4")
    batch = TaskBatch.objects.create(id="b3", total=900)
    make_task(Status.FINISHED, batch_id="b3")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE taskcontrol_tasklog")
    return {"tasktype": one, "schedule": schedule, "taskbatch": batch}


def test_no_screen_reads_the_whole_table_of_tasks(boss, many):
    for url in (url for model in many for url in (list_url(model), page_url(many[model]))):
        with CaptureQueriesContext(connection) as queries:
            text_of(boss.get(url))
        asked = [one["sql"] for one in queries if "taskcontrol_tasklog" in one["sql"]]
        assert asked
        for sql in asked:
            plan = plan_of(sql)
            whole = '"Seq Scan", [^{}]*"Relation Name": "taskcontrol_tasklog"'
            assert not re.search(whole, plan), f"{sql}\n{plan}"


def plan_of(sql):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        return json.dumps(cursor.fetchone()[0])


def test_a_type_that_is_looked_at_again_asks_for_its_places_alone(boss):
    make_type("shop.m1")
    url = reverse("admin:taskcontrol_tasktype_changelist")
    counts = []
    for headers in ({}, {"X-Requested-With": "taskcontrol"}):
        with CaptureQueriesContext(connection) as queries:
            text_of(boss.get(url, headers=headers))
        counts.append(sum("taskcontrol_rollup" in one["sql"] for one in queries))
    assert counts == [1, 0]
