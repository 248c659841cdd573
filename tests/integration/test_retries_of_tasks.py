"""P7: ended stays ended, and automatic retries never pass ``max_retries``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import taskcontrol
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.resending import resend_unclaimed
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import all_ended, ended, free, has_status, row
from tests.servers.environment import site_environment
from tests.waiting import always, eventually, race

pytestmark = pytest.mark.integration


def test_retries_never_pass_their_number_with_many_sweepers_p7(
    start_workers, start_beat, record
):
    start_workers({}, {})
    start_beat(conf={"retry-failed": 0.2, "dispatch": 0.2})
    rows = [taskcontrol.enqueue(tasks.fail_recorded, max_retries=n % 4) for n in range(24)]
    ids = [task.pk for task in rows]

    def sweep():
        count = 0
        while TaskLog.objects.filter(pk__in=ids).ended().count() < len(ids):
            count += retry_failed_tasks()
        return count

    answers = race(sweep, sweep, timeout=120)

    assert all(isinstance(answer, int) for answer in answers), answers
    for number, now in enumerate(all_ended(rows)):
        assert (now.status, now.retry_count) == (Status.FAILED, number % 4)
        assert len(record.lines("started", task=now.pk)) == 1 + number % 4
    assert set(record.starts().values()) == {1}
    always(lambda: not TaskLog.objects.exclude(status=Status.FAILED).exists(), 2)


def test_what_has_ended_stays_ended_whatever_sweeps_p7(worker, record):
    canceled = taskcontrol.enqueue(tasks.recorded, paused=True)
    taskcontrol.cancel(canceled)
    rows = [
        ended(taskcontrol.enqueue(tasks.recorded)),
        ended(taskcontrol.enqueue(tasks.fail)),
        ended(taskcontrol.enqueue(tasks.fail, max_retries=1)),
        row(canceled),
    ]
    before = list(TaskLog.objects.values())
    commands = [
        subprocess.Popen(
            [sys.executable, "manage.py", "taskcontrol", verb],
            env={**os.environ, **site_environment()},
            stdout=subprocess.DEVNULL,
        )
        for verb in ("dispatch", "retry-failed")
    ]
    for sweep in (retry_failed_tasks, resend_unclaimed, rescue_lost_tasks):
        assert sweep() == 0

    assert [command.wait(60) for command in commands] == [0, 0]
    assert list(TaskLog.objects.values()) == before
    assert len(rows) == len(before)


def test_a_retry_waits_for_its_delay_p7(worker, record):
    task = taskcontrol.enqueue(tasks.fail_recorded, max_retries=1, retry_delay=1.5)

    now = ended(task)

    first, second = record.lines("started")
    assert 1.4 < second["at"] - first["at"] < 6
    assert (now.status, now.retry_count, now.attempt) == (Status.FAILED, 1, 2)


def test_a_failed_task_whose_retry_is_due_has_not_ended_p7(worker):
    task = taskcontrol.enqueue(tasks.fail, max_retries=1, retry_delay=600)

    now = has_status(task, Status.FAILED)

    assert now.retry_at is not None
    assert not now.ended
    free(task)
    assert not TaskLog.objects.ended().exists()


def test_a_discarded_task_is_not_retried_p7(worker):
    now = ended(taskcontrol.enqueue(tasks.discard, max_retries=5))

    assert (now.status, now.attempt, now.retry_at) == (Status.FAILED, 1, None)
    assert now.ended_reason == "discarded: not worth it"


def test_a_body_may_ask_for_its_retry_but_not_beyond_the_number_p7(worker):
    now = ended(taskcontrol.enqueue(tasks.ask_for_retry, delay=0, max_retries=2))

    assert (now.status, now.attempt, now.retry_count) == (Status.FAILED, 3, 2)


def test_many_retry_by_hand_and_one_did_it_p7(worker):
    task = ended(taskcontrol.enqueue(tasks.fail))
    taskcontrol.toggle_dispatcher(enable=False)

    answers = race(*[lambda: taskcontrol.retry(task)] * 6)

    assert sum(isinstance(answer, TaskLog) for answer in answers) == 1
    refused = {type(a).__name__ for a in answers if not isinstance(a, TaskLog)}
    assert refused == {"InvalidTransition"}
    assert row(task).retry_count == 1
    taskcontrol.toggle_dispatcher(enable=True)
    eventually(lambda: TaskAttempt.objects.filter(task=task).count() == 1)
    ended(task)


def test_a_task_finishes_in_a_later_attempt_and_keeps_its_story_p7(worker):
    now = ended(taskcontrol.enqueue(tasks.fail_until, attempt=3, max_retries=9))

    assert (now.status, now.result, now.error_message) == (Status.FINISHED, 3, "")
    told = TaskAttempt.objects.filter(task=now).values_list("attempt", "error_message")
    assert ["attempt 1" in error or "attempt 2" in error for _, error in told] == [True] * 2
