"""The options of enqueue on a real worker: each does there what the page says."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.utils import timezone

import taskcontrol
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user
from tests.integration.watching import all_ended, ended, has_status
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.databases]


def test_a_task_keeps_all_that_the_call_said(worker, record):
    ann = make_user("ann")

    row = ended(
        taskcontrol.enqueue(
            tasks.type_of,
            value="beaten",
            arguments={"value": Decimal("1.50")},
            queue="short",
            timeout=dt.timedelta(minutes=2),
            job_name="Give it back",
            event="nightly",
            job_id="options-1",
            batch_id="options",
            batch_order=4,
            priority=3,
            at_front=True,
            track_job=True,
            created_by=ann,
        )
    )

    assert (row.status, row.result) == (Status.FINISHED, "Decimal")
    assert (row.queue, row.timeout, row.job_name) == ("short", 120, "Give it back")
    assert (row.batch_id, row.batch_order, row.priority) == ("options", 4, 3)
    assert list(TaskLog.objects.filter(event="nightly", job_id="options-1")) == [row]
    assert (row.created_by, row.at_front) == (ann, True)


def test_times_hold_a_task_back_or_end_its_waiting(worker, record):
    soon = taskcontrol.enqueue(tasks.nothing, run_at=dt.timedelta(seconds=1))
    late = taskcontrol.enqueue(tasks.nothing, run_at=timezone.now() + dt.timedelta(hours=1))
    unwanted = taskcontrol.enqueue(tasks.nothing, paused=True, expires=dt.timedelta(0))
    paused = taskcontrol.enqueue(tasks.nothing, paused=True)

    row = ended(soon)

    assert row.status == Status.FINISHED
    assert dt.timedelta(0) <= row.started_at - row.run_at < dt.timedelta(seconds=2)
    assert ended(unwanted).status == Status.CANCELED
    assert has_status(late, Status.PENDING).started_at is None
    taskcontrol.resume(paused)
    assert ended(paused).status == Status.FINISHED
    taskcontrol.cancel(late)


def test_a_task_that_runs_here_leaves_the_row_that_a_worker_leaves(worker, record):
    here = taskcontrol.enqueue(tasks.type_of, value=Decimal(1), now=True)
    there = ended(taskcontrol.enqueue(tasks.type_of, value=Decimal(1)))

    same = ("status", "attempt", "result", "queue", "lane", "timeout", "occupies", "method")
    for name in same:
        assert getattr(here, name) == getattr(there, name), name
    assert here.worker_id is None
    assert there.worker_id is not None


def test_a_task_of_a_worker_may_run_another_one_at_once(worker, record):
    outer = ended(
        taskcontrol.enqueue(
            tasks.run_child, arguments={"method": "tests.tasks.which_attempt"}
        )
    )

    inner = TaskLog.objects.get(method="tests.tasks.which_attempt")
    assert outer.result == ["Finished", [inner.pk, 1], [outer.pk, 1]]
    assert (inner.worker_id, outer.worker_id is None) == (None, False)


def test_a_task_starts_to_the_front_where_the_line_is_long(one_slot, record, conf):
    conf(STARVED_AFTER=2)
    slot = taskcontrol.enqueue(tasks.sleep, seconds=60)
    eventually(lambda: record.lines("started", task=slot.pk))
    calm = [taskcontrol.enqueue(tasks.recorded, tag="calm") for _ in range(5)]
    first = taskcontrol.enqueue(tasks.recorded, tag="first", at_front_when_starved=True)

    taskcontrol.cancel(slot)

    all_ended([*calm, first])
    tags = [line["tag"] for line in record.lines("started") if "tag" in line]
    # What was handed over to the worker already is not taken back.
    assert tags.index("first") < 3


def test_a_task_that_failed_here_can_be_retried_in_a_worker(worker, record):
    with pytest.raises(ValueError, match="attempt 1"):
        taskcontrol.enqueue(tasks.fail_until, attempt=2, now=True)

    task = TaskLog.objects.get(status=Status.FAILED)
    taskcontrol.retry(task)

    assert ended(task).result == 2


@pytest.mark.only_on("postgresql", "mysql")
def test_a_task_that_is_stored_apart_runs_before_the_commit_and_whatever_becomes_of_it(
    worker, record
):
    with transaction.atomic():
        make_user("gone")
        task = taskcontrol.enqueue(tasks.recorded, tag="apart", enqueue_after_commit=False)
        eventually(lambda: record.lines("ended"), 20)
        assert connection.in_atomic_block
        transaction.set_rollback(True)

    assert ended(task).status == Status.FINISHED
