"""Callbacks, hooks, runs in place and atomic bodies with a real worker."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.announcing import TELLING_TAKES
from taskcontrol.models import Announcement, TaskEvent, TaskLog
from taskcontrol.status import Status
from tests import endings, tasks
from tests.factories import make_user, seconds_ago
from tests.integration.watching import all_ended, ended, has_status
from tests.models import Counter
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration


def told(record, task):
    return record.lines("told", job=task.pk)


def test_callbacks_are_called_after_the_end_as_the_creator_p8(worker, record):
    ann = make_user("ann")

    done = taskcontrol.enqueue(
        tasks.add, left=1, right=2, on_success=endings.note, created_by=ann
    )
    chain = taskcontrol.enqueue(
        tasks.nothing, on_success=endings.enqueue_more, created_by=ann
    )

    (line,) = eventually(lambda: told(record, done))
    assert (line["status"], line["result"], line["user"], line["inside"]) == (
        Status.FINISHED,
        3,
        "ann",
        False,
    )
    more = eventually(TaskLog.objects.filter(job_name=f"after {chain.pk}").first)
    assert (ended(more).result, more.created_by) == ("ann", ann)


def test_only_the_last_failure_is_told_and_a_broken_callback_harms_nothing_p7(
    worker, record
):
    failed = taskcontrol.enqueue(
        tasks.fail, max_retries=2, on_success=endings.note, on_failure=endings.note_failure
    )
    broken = taskcontrol.enqueue(tasks.fail, on_failure=endings.break_down)
    canceled = taskcontrol.enqueue(tasks.nothing, paused=True, on_failure=endings.note)
    taskcontrol.cancel(canceled)

    assert ended(failed).attempt == 3
    (line,) = eventually(lambda: told(record, failed))
    assert (line["error"], line["said"], line["attempt_told"]) == (
        "ValueError",
        "it failed",
        3,
    )
    assert ended(broken).status == Status.FAILED
    event = eventually(TaskEvent.objects.filter(task=broken).first)
    assert "RuntimeError: the callback broke" in event.detail
    always(lambda: len(record.lines("told")) == 1, 0.5)


def test_a_process_killed_between_the_end_and_the_callback_loses_no_callback_p1(
    worker, record
):
    task = taskcontrol.enqueue(tasks.nothing, on_success=endings.die_at_first)
    has_status(task, Status.FINISHED)
    (first,) = eventually(lambda: told(record, task))
    news = Announcement.objects.filter(task=task, new=Status.FINISHED)
    assert news.count() == 1

    # The minute passes after which who took it counts as dead.
    news.update(taken_at=seconds_ago(TELLING_TAKES + 1))

    _, second = eventually(lambda: len(told(record, task)) == 2 and told(record, task), 20)
    assert first["pid_told"] != second["pid_told"]
    eventually(lambda: not news.exists())
    assert ended(task).status == Status.FINISHED


def test_an_end_that_no_body_saw_is_told_too_p11(worker, record):
    task = taskcontrol.enqueue(tasks.block_in_c, timeout=1, on_failure=endings.note_failure)

    assert ended(task).ended_reason == "timed out"

    (line,) = eventually(lambda: told(record, task), 20)
    assert line["error"] == "TimedOut"


def test_hooks_are_called_around_every_body(start_worker, record):
    start_worker(
        conf={
            "BEFORE_JOB": ["tests.endings.before_job"],
            "AFTER_JOB": ["tests.endings.break_down", "tests.endings.after_job"],
        }
    )

    done = ended(taskcontrol.enqueue(tasks.add, left=1))
    failed = ended(taskcontrol.enqueue(tasks.fail, message="no"))

    assert (done.status, failed.status) == (Status.FINISHED, Status.FAILED)
    eventually(lambda: len(record.lines("after")) == 2)
    (before, after), (_, after_failure) = (
        [line for line in record.lines() if line["task"] == task.pk]
        for task in (done, failed)
    )
    assert (before["what"], before["method"], before["transaction_type"]) == (
        "before",
        "tests.tasks.add",
        "job",
    )
    assert (after["kwargs"], after["result"]) == ({"left": 1}, 1)
    assert (after_failure["kwargs"], after_failure["result"]) == ({"message": "no"}, None)


def test_a_body_that_asks_for_it_runs_again_in_place(worker, record):
    task = ended(taskcontrol.enqueue(endings.ask_in_place, times=1))

    assert (task.status, task.result, task.attempt, task.retry_count) == (
        Status.FINISHED,
        2,
        1,
        0,
    )
    first, second = record.lines("started", task=task.pk)
    assert first["pid"] == second["pid"]
    assert second["at"] - first["at"] > 0.9
    assert "is run again in place in 1 s (1 of 5)" in task.debug_log


def test_a_cancel_ends_the_pause_before_a_run_in_place_p6(worker, record):
    task = taskcontrol.enqueue(endings.ask_in_place, times=9)
    eventually(lambda: len(record.lines("started", task=task.pk)) == 3)

    taskcontrol.cancel(task)

    assert ended(task).status == Status.CANCELED
    assert len(record.lines("started", task=task.pk)) == 3


@pytest.mark.only_on("postgresql", "mysql")
def test_two_tasks_in_a_deadlock_both_finish_uncounted(worker):
    a, b = (Counter.objects.create(name=name).pk for name in ("a", "b"))
    pair = [
        taskcontrol.enqueue(endings.cross, first=a, then=b),
        taskcontrol.enqueue(endings.cross, first=b, then=a),
    ]

    rows = all_ended(pair)

    assert {(row.status, row.attempt, row.retry_count) for row in rows} == {
        (Status.FINISHED, 1, 0)
    }
    assert sum("is run again in place" in row.debug_log for row in rows) == 1
    assert sorted(Counter.objects.values_list("value", flat=True)) == [1, 1]


@pytest.mark.only_on("postgresql", "mysql")
def test_an_atomic_body_killed_before_its_end_has_done_nothing_and_is_done_once_p1(worker):
    plain = ended(taskcontrol.enqueue(endings.write_and_die_at_first))
    assert (plain.result, Counter.objects.filter(name="written").count()) == (2, 2)
    Counter.objects.all().delete()

    atomic = ended(taskcontrol.enqueue(endings.write_and_die_at_first, atomic=True))

    assert (atomic.status, atomic.result, atomic.lost_count) == (Status.FINISHED, 2, 1)
    assert Counter.objects.filter(name="written").count() == 1


def test_delays_grow_and_listed_errors_decide_p7(worker, record):
    grows = taskcontrol.enqueue(
        tasks.fail_recorded,
        max_retries=2,
        retry_delay=0.5,
        backoff={"factor": 4, "jitter": False},
        retry_on=ValueError,
    )
    listed = taskcontrol.enqueue(tasks.fail, max_retries=5, retry_on=[ConnectionError])
    dropped = taskcontrol.enqueue(tasks.fail, max_retries=5, discard_on="ValueError")

    reasons = [ended(task).ended_reason for task in (listed, dropped)]
    assert reasons == [
        "not retried: ValueError is not in retry_on",
        "discarded: ValueError is in discard_on",
    ]
    assert ended(grows).retry_count == 2
    first, second, third = [line["at"] for line in record.lines("started", task=grows.pk)]
    assert second - first > 0.4
    assert third - second > 1.9
