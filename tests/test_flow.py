"""The numbers of the queues: right, and read from the ends of indexes."""

from __future__ import annotations

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import flow
from taskcontrol.conf import known_queues
from taskcontrol.flow import flows
from taskcontrol.models import TaskLog
from taskcontrol.purging import newest_pending, pending_in
from taskcontrol.status import Status
from tests.factories import make_task, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def micros_ago(seconds: float) -> int:
    return int(seconds_ago(seconds).timestamp() * 1_000_000)


def test_each_number_is_that_of_the_rows():
    worker = make_worker(["long"], pool_size=3)
    make_task(queue="long", created_at=seconds_ago(65), position=micros_ago(65))
    make_task(queue="long", run_at=seconds_ago(-600))
    make_task(Status.QUEUED, queue="long")
    make_task(Status.STARTED, queue="long", worker=worker)
    make_task(Status.CANCELED, queue="long", worker=worker, occupies=True)
    make_task(Status.PAUSED, queue="long")

    long = flows()["long"]

    assert (long.waiting, long.sent, long.running, long.stopping) == (2, 1, 1, 1)
    assert (long.depth, long.slots, len(long.workers)) == (3, 3, 1)
    assert 64 < long.oldest_seconds < 120
    assert (long.unserved, long.full) == (False, False)


def test_what_came_and_went_is_that_of_the_last_minute():
    old = {"position": micros_ago(70), "created_at": seconds_ago(70)}
    make_task(queue="short")
    make_task(queue="short", **old)
    make_task(Status.FINISHED, queue="short")
    make_task(Status.FAILED, queue="short", **old)
    make_task(Status.FINISHED, queue="short", ended_at=seconds_ago(61), **old)
    make_task(Status.FINISHED, queue="long")

    found = flows()

    assert (found["short"].came, found["short"].went) == (2, 2)
    assert (found["long"].came, found["long"].went) == (1, 1)
    assert (found["default"].came, found["default"].went) == (0, 0)


def test_more_than_a_page_needs_reads_as_at_least(monkeypatch):
    monkeypatch.setattr(flow, "MOST_COUNTED", 2)
    for _ in range(3):
        make_task(queue="short")
        make_task(Status.FINISHED, queue="long")

    found = flows()

    assert str(found["short"].waiting) == str(found["short"].depth) == "2+"
    assert str(found["long"].went) == "3+"


def test_a_full_queue_and_one_that_nobody_serves_say_so(conf):
    conf(QUEUES={"short": {"max_queued_jobs": 2}})
    make_task(queue="short")
    assert (flows()["short"].full, flows()["short"].unserved) == (False, True)
    make_task(Status.QUEUED, queue="short")
    make_worker(["short"])

    assert (flows()["short"].full, flows()["short"].unserved) == (True, False)


def test_what_is_for_later_asks_for_no_worker_yet():
    make_task(queue="short", run_at=seconds_ago(-60))

    assert flows()["short"].unserved is False


def test_queues_that_have_work_or_a_worker_are_there_though_no_setting_knows_them():
    make_task(queue="of_yesterday")
    make_worker(["of_others"])

    assert set(flows()) == {*known_queues(), "of_yesterday", "of_others"}
    assert list(flows(["long"])) == ["long"]


def test_any_number_of_queues_and_tasks_costs_the_same(conf):
    with CaptureQueriesContext(
        connection,
    ) as few:
        flows()
    conf(QUEUES={f"q{number}": {} for number in range(20)})
    for number in range(20):
        make_task(queue=f"q{number}")
    with CaptureQueriesContext(connection) as many:
        flows()

    assert len(many) <= len(few) + 2 <= 9  # two more for the first tasks of the lanes


@pytest.fixture
def many_rows(django_db_blocker):
    """Rows so many that a plan over all of them would be dear."""
    columns = "job_name, method, queue, status, lane, ready_lane, ended_at, created_at, "
    columns += "position, timeout, at_front, call_whitelisted_function, arguments, "
    columns += "document_type, document_name, document_action, batch_order, max_retries, "
    columns += "retry_count, error_message, debug_log, attempt, occupies, lost_count, "
    columns += "sent_count, ended_reason, event, schedule, heard, options, rev"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO taskcontrol_tasklog ({columns}) SELECT 'x', 'm', "
            "(ARRAY['short','default','long'])[1 + n % 3], "
            "CASE WHEN n % 4 = 0 THEN 'Pending' ELSE 'Finished' END, n % 3, "
            "CASE WHEN n % 4 = 0 THEN n % 3 END, "
            "CASE WHEN n % 4 > 0 THEN NOW() - n * INTERVAL '1 second' END, "
            "NOW() - n * INTERVAL '1 second', n, 300, false, false, '{}', '', '', '', 0, "
            "0, 0, '', '', 0, false, 0, 0, '', '', '', false, '{}', 0 "
            "FROM generate_series(1, 60000) n"
        )
        cursor.execute("ANALYZE taskcontrol_tasklog")


@pytest.mark.only_on("postgresql")
def test_no_statement_reads_all_of_many_rows(many_rows, monkeypatch):
    # So few are wanted of so many that reading the table from its begin looks cheap.
    monkeypatch.setattr(flow, "MOST_COUNTED", 50)
    with CaptureQueriesContext(connection) as asked:
        found = flows()
        newest_pending("short")
        list(pending_in("short").filter(pk__gt=9).values("pk")[:501])

    assert str(found["short"].waiting) == "50+"
    plans = [plan_of(query["sql"]) for query in asked if "tasklog" in query["sql"]]
    assert len(plans) >= 7
    for plan in plans:
        assert "taskcontrol_tasklog" not in read_whole(plan), plan
        assert "taskcontrol_tasklog_pkey" not in walked(plan), plan


def plan_of(sql):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        ((plan,),) = cursor.fetchone()
    return (plan if isinstance(plan, dict) else json.loads(plan))["Plan"]


def walked(plan):
    """Return the indexes that are read without a condition: all of them, in their order."""
    whole = "Index Name" in plan and "Index Cond" not in plan
    found = {plan["Index Name"]} if whole else set()
    return found.union(*(walked(child) for child in plan.get("Plans", ())))


def read_whole(plan):
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    return found.union(*(read_whole(child) for child in plan.get("Plans", ())))


def test_the_oldest_is_the_first_of_its_lane():
    first = make_task(created_at=seconds_ago(50), position=1)
    make_task(created_at=seconds_ago(40), position=2)

    assert flows()["default"].oldest_task == first.pk
    assert TaskLog.objects.count() == 2
