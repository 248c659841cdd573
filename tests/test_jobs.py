"""What callers know of a task leads to its row; what they do not know leads to None."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol.exceptions import UnknownQueue
from taskcontrol.models import TaskLog
from taskcontrol.status import TERMINAL, Status
from tests import tasks
from tests.factories import make_task, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

UNKNOWN = [
    "nobody",
    "",
    "0",
    "-1",
    "99999999999999999999",
    "²",
    "a\x00b",
    "\ud800",
    10**30,
    -5,
]


# get_job


def test_a_job_is_found_by_whatever_is_known_of_it():
    task = make_task(Status.QUEUED, job_id="nightly")

    for key in (task, task.pk, task.name, "nightly", task.celery_task_id):
        assert taskcontrol.get_job(key) == task
        assert taskcontrol.get_job_status(key) is Status.QUEUED


@pytest.mark.parametrize("key", UNKNOWN)
def test_what_is_unknown_is_none_and_no_error(key):
    make_task(job_id="nightly")

    assert taskcontrol.get_job(key) is None
    assert taskcontrol.get_job_status(key) is None


def test_of_several_with_one_job_id_the_newest_is_found():
    old, new = make_task(Status.STARTED, job_id="a"), make_task(Status.FINISHED, job_id="a")

    assert taskcontrol.get_job("a") == new
    assert taskcontrol.get_job_status("a") == "Finished"
    assert taskcontrol.get_job(old) == old


def test_a_text_is_a_job_id_first_and_a_number_is_never_one():
    first = make_task()
    named_alike = make_task(job_id=first.name)

    assert taskcontrol.get_job(first.name) == named_alike
    assert taskcontrol.get_job(first.pk) == first
    assert taskcontrol.get_job(first) == first


def test_a_job_id_is_compared_as_written():
    make_task(job_id="Nightly")

    assert taskcontrol.get_job("nightly") is None
    assert taskcontrol.get_job("Nightly ") is None
    assert not taskcontrol.is_job_enqueued("NIGHTLY")


def test_a_row_in_hand_is_read_anew():
    task = make_task()
    TaskLog.objects.filter(pk=task.pk).update(job_name="Changed")

    assert taskcontrol.get_job(task).job_name == "Changed"
    task.delete()
    assert taskcontrol.get_job(TaskLog(pk=task.pk)) is None


# is_job_enqueued


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_a_job_is_enqueued_until_it_has_ended(status):
    make_task(status, job_id="nightly")

    assert taskcontrol.is_job_enqueued("nightly") is True


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_job_that_has_ended_is_not_enqueued(status):
    make_task(status, job_id="nightly")

    assert taskcontrol.is_job_enqueued("nightly") is False


@pytest.mark.parametrize("status", ["Pending", "Paused", "Queued"])
def test_a_job_that_expired_while_nobody_looked_is_not_enqueued(status):
    make_task(status, job_id="nightly", expires_at=seconds_ago(60))

    assert taskcontrol.is_job_enqueued("nightly") is False


def test_a_job_whose_retry_is_due_is_enqueued():
    make_task(Status.FAILED, job_id="nightly", retry_at=seconds_ago(-60), max_retries=1)

    assert taskcontrol.is_job_enqueued("nightly") is True


@pytest.mark.parametrize("key", [key for key in UNKNOWN if isinstance(key, str)])
def test_what_is_unknown_is_not_enqueued(key):
    assert taskcontrol.is_job_enqueued(key) is False


def test_is_job_enqueued_says_what_deduplicate_does():
    once = {"method": tasks.nothing, "job_id": "sync", "deduplicate": True}

    assert not taskcontrol.is_job_enqueued("sync")
    taskcontrol.enqueue(**once)
    assert taskcontrol.is_job_enqueued("sync")
    assert taskcontrol.enqueue(**once) is None


# get_jobs


def test_the_jobs_of_a_queue_are_those_that_have_not_ended_oldest_first():
    mine = [make_task(status, queue="short") for status in ("Started", "Queued", "Pending")]
    mine.append(make_task(Status.FAILED, queue="short", retry_at=seconds_ago(-9)))
    make_task(Status.FINISHED, queue="short")
    make_task(Status.FAILED, queue="short")
    other = make_task(Status.PAUSED, queue="long")

    assert list(taskcontrol.get_jobs(queue="short")) == mine
    assert list(taskcontrol.get_jobs("long")) == [other]
    assert list(taskcontrol.get_jobs()) == [other, *mine]


def test_the_jobs_are_read_when_they_are_used():
    with CaptureQueriesContext(connection) as queries:
        jobs = taskcontrol.get_jobs("default")
    assert not len(queries)

    make_task(method="tests.tasks.add")
    make_task(Status.STARTED)
    assert jobs.count() == 2
    assert [job.method for job in jobs.pending()] == ["tests.tasks.add"]
    assert list(jobs.values_list("status", flat=True)[:1]) == ["Pending"]


def test_the_jobs_of_a_queue_that_does_not_exist_are_refused_with_the_queues_there_are():
    with pytest.raises(UnknownQueue) as refused:
        taskcontrol.get_jobs("defualt")

    assert str(refused.value) == (
        "Unknown queue 'defualt'; TASKCONTROL[\"QUEUES\"] has: default, long, short."
    )


# get_workers


def test_the_workers_that_are_there_are_told_with_what_they_do():
    make_worker(left_at=seconds_ago(1))
    make_worker(lost_at=seconds_ago(1))
    silent = make_worker(last_seen_at=seconds_ago(3600))
    busy = make_worker(queues=["short"], pool_size=3)
    make_task(Status.STARTED, worker=busy)

    told = taskcontrol.get_workers()

    assert [(one.name, one.state) for one in told] == [
        (busy.hostname, "live"),
        (silent.hostname, "silent"),
    ]
    assert (told[0].slots, told[0].busy, told[0].queues) == (3, 1, ["short"])


@pytest.mark.parametrize(
    "ask",
    [
        lambda: taskcontrol.get_job("nightly"),
        lambda: taskcontrol.get_job_status("nightly"),
        lambda: taskcontrol.is_job_enqueued("nightly"),
        lambda: list(taskcontrol.get_jobs("default")),
    ],
    ids=["get_job", "get_job_status", "is_job_enqueued", "get_jobs"],
)
def test_each_question_is_one_statement(ask):
    make_task(job_id="nightly")

    with CaptureQueriesContext(connection) as queries:
        assert ask()

    assert len(queries) == 1


@pytest.mark.parametrize("nothing", [None, "", "\0"])
def test_nothing_is_not_enqueued(nothing):
    make_task(job_id=None)
    assert taskcontrol.is_job_enqueued(nothing) is False
