"""Batches on a real worker: fanned out, held back, stopped, called back."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol import batches
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type, make_user
from tests.integration.watching import ended, has_status, story
from tests.servers.worker import QUICK
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.databases]

OUTCOMES = ("success", "failure", "completion")


def batch(batch_id="b", **options) -> str:
    """Make a batch whose callbacks write down that they were called."""
    given = {
        f"on_{outcome}": {"method": tasks.batch_ended, "outcome": outcome}
        for outcome in OUTCOMES
    }
    return taskcontrol.create_batch(batch_id, **{**given, **options})


def over(batch_id, timeout=30) -> TaskBatch:
    """Return the row of a batch that has ended."""
    rows = TaskBatch.objects.filter(pk=batch_id, ended_at__isnull=False)
    members = TaskLog.objects.filter(batch_id=batch_id)
    eventually(rows.exists, timeout, why=lambda: "\n".join(map(story, members)))
    return rows.get()


def called(record) -> list[str]:
    """Return which callbacks ran, when no task is left."""
    eventually(lambda: not TaskLog.objects.unended().exists(), 20)
    return sorted(line["what"] for line in record.lines() if line["what"] in OUTCOMES)


def test_a_coordinator_fans_out_as_the_seeds_do_it(worker):
    told = tasks.bulk_create(["a", "b", "c"])

    coordinator = ended(TaskLog.objects.get(pk=told["coordinator_task_name"]))
    over(told["batch_id"])

    assert (coordinator.status, coordinator.job_name) == (Status.FINISHED, "Bulk Create")
    assert coordinator.progress == {"message": "Resolved 3 items. Enqueueing…"}
    assert coordinator.batch_id is None
    members = TaskLog.objects.filter(batch_id=told["batch_id"]).order_by("batch_order")
    assert [row.result for row in members] == ["a done", "b done", "c done"]
    done = {"done": 3, "failed": 0, "canceled": 0, "total": 3}
    assert batches.progress(told["batch_id"]) == done


def test_a_batch_whose_tasks_all_finish_calls_back_as_its_creator(worker, record):
    batch(created_by=make_user("ann"))
    taskcontrol.bulk_enqueue(
        [{"left": 1}, {"left": 2}, {"left": 3, "right": 5}],
        batch_id="b",
        method=tasks.add,
        arguments=None,
    )

    over("b")

    assert called(record) == ["completion", "success"]
    (line,) = record.lines("success")
    assert (line["batch"], line["by"]) == ("b", "ann")
    row = TaskLog.objects.get(
        method="tests.tasks.batch_ended", arguments__outcome="success"
    )
    assert row.result == {"done": 3, "failed": 0, "canceled": 0, "total": 3}


def test_a_batch_in_which_one_fails_goes_on_and_calls_back_otherwise(worker, record):
    batch()
    taskcontrol.bulk_enqueue(
        [{"method": tasks.fail}, *[{"method": tasks.nothing}] * 3], batch_id="b"
    )

    over("b")

    assert called(record) == ["completion", "failure"]
    assert batches.progress("b") == {"done": 4, "failed": 1, "canceled": 0, "total": 4}


def test_an_empty_batch_calls_back_too(worker, record):
    batch()
    taskcontrol.bulk_enqueue([], batch_id="b")

    over("b")

    assert called(record) == ["completion", "success"]


def test_a_failure_that_is_retried_by_itself_holds_nothing_back(worker, record):
    batch(hold_on_failure=True)
    make_type("tests.tasks.recorded", concurrency_limit=1)
    first = {"method": tasks.fail_until, "attempt": 2, "max_retries": 1, "retry_delay": 0.5}
    rest = [{"method": tasks.recorded, "seconds": 0.2}] * 6
    taskcontrol.bulk_enqueue([first, *rest], batch_id="b")

    over("b")

    assert called(record) == ["completion", "success"]
    assert not TaskLog.objects.filter(batch_id="b", status=Status.PAUSED).exists()


def test_a_failure_holds_the_rest_back_until_it_is_resumed(worker, record):
    batch(hold_on_failure=True)
    make_type("tests.tasks.recorded", concurrency_limit=1)
    rest = [{"method": tasks.recorded, "seconds": 0.4, "tag": str(n)} for n in range(12)]
    taskcontrol.bulk_enqueue([{"method": tasks.fail}, *rest], batch_id="b")

    eventually(lambda: at_rest(batches.counts("b")), 20)
    begun = len(record.lines("started"))
    numbers = batches.counts("b")
    assert (numbers["Failed"], numbers["Finished"], numbers["Paused"]) == (
        1,
        begun,
        12 - begun,
    )
    assert called_so_far(record) == []

    taskcontrol.resume_batch("b")

    over("b")
    assert called(record) == ["completion", "failure"]
    assert set(record.starts().values()) == {1}
    assert len(record.lines("started")) == 12


def at_rest(numbers) -> bool:
    """Return whether some of a batch are paused and none goes on."""
    going = numbers["Pending"] + numbers["Queued"] + numbers["Started"]
    return bool(numbers["Paused"]) and not going


def called_so_far(record) -> list[str]:
    return [line["what"] for line in record.lines() if line["what"] in OUTCOMES]


def test_a_canceled_batch_stops_what_runs_and_what_waits(worker, record):
    batch()
    rest = [{"method": tasks.sleep, "seconds": 60}] * 6
    taskcontrol.bulk_enqueue(rest, batch_id="b")
    eventually(lambda: len(record.lines("started")) == 2, 20)

    assert taskcontrol.cancel_batch("b", "wrong list") == 6

    over("b")
    eventually(lambda: not TaskLog.objects.filter(occupies=True).exists(), 20)
    assert called(record) == ["completion", "failure"]
    assert len(record.lines("started")) == 2
    assert batches.progress("b")["canceled"] == 6


def test_a_task_is_added_to_a_batch_that_has_ended(worker, record):
    batch()
    taskcontrol.bulk_enqueue([{"method": tasks.nothing}], batch_id="b")
    first = over("b").ended_at
    assert called(record) == ["completion", "success"]

    late = taskcontrol.enqueue(tasks.fail, batch_id="b")

    has_status(late, Status.FAILED)
    eventually(lambda: (over("b").ended_at or first) > first)
    assert called(record) == ["completion", "failure", "success"]
    assert batches.progress("b")["total"] == 2


def test_a_batch_outlives_the_worker_that_dispatches_and_settles_it_p1(
    start_worker, record
):
    batch()
    first = start_worker(concurrency=1)
    rest = [{"method": tasks.recorded, "seconds": 0.3, "tag": str(n)} for n in range(5)]
    taskcontrol.bulk_enqueue(rest, batch_id="b")
    eventually(lambda: len(record.lines("ended")) >= 2, 20)

    first.process.kill()
    start_worker(concurrency=2)

    over("b", QUICK["WORKER_LOST_AFTER"] + 20)
    assert called(record) == ["completion", "success"]
    assert batches.progress("b")["done"] == 5
    assert set(record.starts().values()) == {1}
