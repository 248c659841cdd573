"""Deduplication and the monitoring calls while a real worker runs what they tell of."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.exceptions import KeyTaken
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.integration.test_road import ended
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.databases]


def once(method=tasks.recorded, key="nightly", **options):
    return taskcontrol.enqueue(method, job_id=key, deduplicate=True, **options)


def test_a_key_is_held_until_the_end_and_free_at_once_after_it(worker, record):
    first = once(seconds=0.5)
    assert once() is None
    eventually(lambda: record.lines("started", task=first.pk), 20)

    assert once() is None
    assert taskcontrol.is_job_enqueued("nightly")
    assert taskcontrol.get_job_status("nightly") is Status.STARTED
    assert [job.pk for job in taskcontrol.get_jobs("default")] == [first.pk]
    (seen,) = taskcontrol.get_workers()
    assert (seen.name, seen.state, seen.busy) == (worker.hostname, "live", 1)

    row = ended(first)
    assert not taskcontrol.is_job_enqueued("nightly")
    assert taskcontrol.get_job(row.celery_task_id) == first
    second = once()
    assert ended(second).status == Status.FINISHED
    assert taskcontrol.get_job("nightly") == second
    assert len(record.lines("started")) == 2


def test_a_key_is_held_while_a_retry_is_due(worker, record):
    again = {"method": tasks.fail_until, "key": "retried", "attempt": 2}
    first = once(**again, max_retries=1, retry_delay=0.5)
    eventually(TaskLog.objects.filter(retry_at__isnull=False).exists, 20)

    assert once(**again) is None
    assert taskcontrol.is_job_enqueued("retried")
    assert ended(first).result == 2
    assert not taskcontrol.get_jobs().exists()


def test_a_key_outlives_the_process_and_does_not_outlive_the_task(worker, record):
    first = once(tasks.kill_itself_until, attempt=2)

    assert ended(first).attempt == 2
    assert ended(once(tasks.kill_itself_until, attempt=1)).status == Status.FINISHED


def test_trailing_runs_once_more_after_the_running_one_with_the_newest_arguments(
    worker, record
):
    first = once(seconds=0.6, tag="0")
    eventually(lambda: record.lines("started"), 20)

    answers = [once(tag=str(n), on_duplicate="trailing") for n in range(1, 5)]

    assert len({task.pk for task in answers}) == 1
    second = ended(answers[0])
    assert second.started_at >= ended(first).ended_at
    assert [line["tag"] for line in record.lines("started")] == ["0", "4"]


def test_replace_reaches_the_body_of_what_waits(worker, record):
    first = once(paused=True, tag="old")

    assert once(tag="new", on_duplicate="replace") == first
    taskcontrol.resume(first)

    assert ended(first).result == "new"


def test_a_retry_by_hand_waits_for_nobody_but_never_runs_beside_its_key(worker, record):
    first = once(tasks.fail)
    ended(first)
    second = once(seconds=0.4)

    with pytest.raises(KeyTaken, match=f"belongs to task {second.pk} now"):
        taskcontrol.retry(first)

    ended(second)
    taskcontrol.retry(first)
    assert once() is None
    assert ended(first).status == Status.FAILED
