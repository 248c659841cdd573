"""The road of a task from enqueue to its end, with a real worker, broker and database."""

from __future__ import annotations

import pytest
from django.db import transaction

import taskcontrol
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user
from tests.models import Counter
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.databases]


def ended(task, timeout=20):
    """Return the row of ``task`` when it has ended."""
    return eventually(
        lambda: TaskLog.objects.ended().filter(pk=task.pk).first(),
        timeout,
        why=lambda: str(TaskLog.objects.filter(pk=task.pk).values().first()),
    )


def test_a_task_goes_the_whole_road(worker, record):
    task = taskcontrol.enqueue(tasks.add, left=40, right=2, job_name="A sum")
    assert task.status == Status.PENDING

    row = ended(task)

    assert (row.status, row.result, row.attempt, row.occupies) == (
        Status.FINISHED,
        42,
        1,
        False,
    )
    assert row.created_at <= row.queued_at <= row.started_at <= row.ended_at
    assert row.worker.hostname == worker.hostname
    assert row.pid in {child.pid for child in worker.children()}
    assert row.time_taken.total_seconds() < 5
    assert row.peak_memory_usage > 1000


def test_an_undisturbed_task_leaves_no_events_and_no_attempts(worker):
    ended(taskcontrol.enqueue(tasks.nothing))

    assert not TaskEvent.objects.exists()
    assert not TaskAttempt.objects.exists()


def test_an_idle_worker_takes_a_task_at_once(worker, record):
    ended(taskcontrol.enqueue(tasks.nothing))

    row = ended(taskcontrol.enqueue(tasks.nothing))

    assert (row.started_at - row.created_at).total_seconds() < 0.9


def test_the_body_runs_once_and_knows_itself(worker, record):
    task = taskcontrol.enqueue(tasks.recorded, tag="only")

    ended(task)

    assert record.starts() == {(task.pk, 1): 1}
    assert [line["tag"] for line in record.lines()] == ["only", "only"]


def test_a_task_runs_as_its_creator(worker):
    user = make_user("ann")

    mine = taskcontrol.enqueue(tasks.whoami, created_by=user)
    nobodys = taskcontrol.enqueue(tasks.whoami)

    assert ended(mine).result == "ann"
    assert ended(nobodys).result == ""


def test_a_child_is_created_by_the_creator_of_its_parent(worker):
    user = make_user("ann")

    parent = ended(taskcontrol.enqueue(tasks.enqueue_child, created_by=user))

    child = ended(TaskLog.objects.get(pk=parent.result))
    assert (child.result, child.created_by) == ("ann", user)


def test_a_rolled_back_enqueue_leaves_nothing_p2(worker, record):
    with transaction.atomic():
        taskcontrol.enqueue(tasks.recorded)
        transaction.set_rollback(True)

    ended(taskcontrol.enqueue(tasks.nothing))
    assert TaskLog.objects.count() == 1
    assert record.lines() == []


def test_a_task_waits_for_the_commit_of_its_caller(worker):
    Counter.objects.create(name="letters")

    with transaction.atomic():
        Counter.objects.filter(name="letters").update(value=5)
        task = taskcontrol.enqueue(tasks.raise_counter, name="letters")

    ended(task)
    assert Counter.objects.get(name="letters").value == 6


def test_a_failure_is_told_readably(worker):
    row = ended(taskcontrol.enqueue(tasks.fail, message="no such letter"))

    assert row.status == Status.FAILED
    assert "ValueError: no such letter" in row.error_message
    assert "tests/tasks.py" in row.error_message
    assert row.retry_at is None


def test_a_failed_task_is_retried_and_finishes(worker):
    row = ended(taskcontrol.enqueue(tasks.fail_until, attempt=3, max_retries=5))

    assert (row.status, row.attempt, row.retry_count, row.result) == (
        Status.FINISHED,
        3,
        2,
        3,
    )
    archived = TaskAttempt.objects.filter(task=row).values_list("attempt", "status")
    assert list(archived) == [(1, Status.FAILED), (2, Status.FAILED)]


def test_a_task_that_always_fails_stops_after_its_retries(worker, record):
    row = ended(taskcontrol.enqueue(tasks.fail, max_retries=2))

    assert (row.status, row.attempt, row.retry_count) == (Status.FAILED, 3, 2)


def test_output_and_logs_are_kept(worker):
    row = ended(taskcontrol.enqueue(tasks.talk, line="on the road"))

    for piece in ("printed on the road", "stderr on the road", "warned on the road"):
        assert piece in row.debug_log


def test_a_batch_runs_to_its_end(worker):
    batch = taskcontrol.bulk_enqueue(
        {"method": tasks.add, "left": number, "right": number} for number in range(50)
    )

    members = TaskLog.objects.filter(batch_id=batch)
    eventually(lambda: members.filter(status=Status.FINISHED).count() == 50, 30)
    assert sorted(members.values_list("result", flat=True)) == [2 * n for n in range(50)]


def test_a_running_task_is_canceled(worker, record):
    task = taskcontrol.enqueue(tasks.clean_up_when_stopped, seconds=60)
    eventually(lambda: record.lines("started"))

    assert taskcontrol.cancel(task, reason="not needed") is True

    row = ended(task)
    assert (row.status, row.ended_reason) == (Status.CANCELED, "not needed")
    eventually(lambda: record.lines("cleaned up"))
    eventually(lambda: not TaskLog.objects.get(pk=task.pk).occupies)


def test_a_task_whose_worker_is_killed_runs_again_p1(start_worker, record):
    first = start_worker(concurrency=1)
    task = taskcontrol.enqueue(tasks.slow_at_first, seconds=60)
    eventually(lambda: record.lines("started"))

    first.kill()
    second = start_worker(concurrency=1)

    row = ended(task, timeout=45)
    assert (row.status, row.attempt) == (Status.FINISHED, 2)
    assert row.worker.hostname == second.hostname
    assert record.starts() == {(task.pk, 1): 1, (task.pk, 2): 1}
