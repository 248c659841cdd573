"""The line of a queue: who may stand before it, and when it takes no more."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import backlog
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.exceptions import QueueOverloaded
from taskcontrol.lanes import lane_of
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def fill(number, queue="short", status=Status.PENDING):
    for _ in range(number):
        make_task(status, queue=queue)


# Starved


@pytest.mark.parametrize(("waiting", "first"), [(16, False), (17, True)])
def test_a_task_goes_to_the_front_of_a_line_that_is_longer_than_sixteen(waiting, first):
    fill(waiting - 1)
    fill(1, status=Status.QUEUED)

    task = enqueue(tasks.nothing, queue="short", at_front_when_starved=True)

    assert task.at_front is first


def test_what_waits_elsewhere_or_has_begun_makes_no_line(conf):
    conf(STARVED_AFTER=1)
    fill(5, queue="long")
    for status in (Status.PAUSED, Status.STARTED, Status.FINISHED, Status.FAILED):
        fill(2, status=status)

    assert not enqueue(tasks.nothing, queue="short", at_front_when_starved=True).at_front
    assert enqueue(tasks.nothing, queue="long", at_front_when_starved=True).at_front


def test_at_front_needs_no_line():
    task = enqueue(tasks.nothing, at_front=True, at_front_when_starved=True)

    assert task.at_front


def test_the_line_is_counted_no_further_than_needed(conf):
    conf(STARVED_AFTER=2)
    fill(5)

    with CaptureQueriesContext(connection) as asked:
        enqueue(tasks.nothing, queue="short", at_front_when_starved=True)

    (count,) = [one["sql"] for one in asked if "COUNT(" in one["sql"]]
    assert "LIMIT 3" in count


@pytest.mark.only_on("postgresql")
def test_the_line_is_read_from_its_index_also_where_the_table_looks_cheaper(conf):
    # Of rows that many wait of, a few are soon found from the begin of the table on; once
    # most of them ran, which statistics are late to tell, it would be read to its end.
    conf(STARVED_AFTER=2)
    lane = lane_of("short", "tests.tasks.nothing", None)
    TaskLog.objects.bulk_create(
        TaskLog(job_name="w", method="tests.tasks.nothing", queue="short", lane=lane)
        for _ in range(3000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE taskcontrol_tasklog")

    with CaptureQueriesContext(connection) as asked:
        assert backlog.length("short", 17) == 17

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {asked[0]['sql']}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "taskcontrol_task_queue" in plan, plan
    assert "Index Cond" in plan, plan


# Overloaded


def test_a_full_queue_takes_no_more_and_says_how_many_wait(conf):
    conf(MAX_QUEUED_JOBS=3)
    fill(2)
    fill(1, status=Status.QUEUED)

    with pytest.raises(QueueOverloaded) as refused:
        enqueue(tasks.nothing, queue="short")

    assert str(refused.value) == (
        "The queue 'short' takes no more: 3 tasks wait there, 1 was to be added, and its "
        "limit is 3 (max_queued_jobs). Wait until it is shorter, start more workers, or "
        "raise the limit."
    )
    assert TaskLog.objects.count() == 3
    assert enqueue(tasks.nothing, queue="long").pk


def test_a_queue_has_its_own_limit(conf):
    conf(MAX_QUEUED_JOBS=1, QUEUES={"mail": {"max_queued_jobs": 2}})
    fill(1, queue="mail")

    enqueue(tasks.nothing, queue="mail")

    with pytest.raises(QueueOverloaded, match="limit is 2"):
        enqueue(tasks.nothing, queue="mail")


def test_what_is_paused_takes_no_place(conf):
    conf(MAX_QUEUED_JOBS=1)
    fill(1)

    assert enqueue(tasks.nothing, queue="short", paused=True).status == Status.PAUSED


def test_a_bulk_is_taken_whole_or_not_at_all(conf, monkeypatch):
    monkeypatch.setattr("taskcontrol.enqueueing.CHUNK", 2)
    conf(MAX_QUEUED_JOBS=5)
    fill(1)

    with pytest.raises(QueueOverloaded, match=r"takes no more: 1 task waits there, 5 were"):
        bulk_enqueue([{}] * 5, method=tasks.nothing, queue="short")

    assert TaskLog.objects.count() == 1
    assert not TaskBatch.objects.exists()
    bulk_enqueue([{}] * 4, method=tasks.nothing, queue="short")


def test_without_a_limit_nothing_is_counted():
    enqueue(tasks.nothing)  # what is read once

    with CaptureQueriesContext(connection) as asked:
        enqueue(tasks.nothing)

    assert not [one["sql"] for one in asked if "COUNT" in one["sql"]]
