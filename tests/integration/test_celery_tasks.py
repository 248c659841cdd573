"""Celery tasks on our road: their own verbs become ours, and beside us they stay Celery's."""

from __future__ import annotations

from collections import Counter

import pytest
from celery import current_app

import taskcontrol
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import ended
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def test_a_celery_task_returns_its_result(worker):
    assert ended(taskcontrol.enqueue(tasks.celery_add, left=1, right=2)).result == 3


def test_its_request_says_who_it_is(worker):
    now = ended(taskcontrol.enqueue(tasks.celery_request))

    assert now.result == {"id": now.celery_task_id, "retries": 0, "eager": False}


def test_retry_becomes_the_next_attempt_in_the_ledger(worker, broker, record):
    now = ended(taskcontrol.enqueue(tasks.celery_retry, until=2))

    assert (now.status, now.result) == (Status.FINISHED, 2)
    assert (now.attempt, now.retry_count) == (3, 2)
    assert [line["retries"] for line in record.lines("started")] == [0, 1, 2]
    told = TaskAttempt.objects.filter(task=now).values_list("status", flat=True)
    assert list(told) == [Status.FAILED, Status.FAILED]
    with broker.client() as client:
        assert not client.hlen("unacked")


def test_retries_end_with_the_error_of_the_last(worker, record):
    now = ended(taskcontrol.enqueue(tasks.celery_retry, until=9))

    assert (now.status, now.attempt, now.retry_count) == (Status.FAILED, 3, 2)
    assert "ValueError: not yet" in now.error_message


def test_fewer_retries_may_be_asked_for_than_the_task_allows(worker, record):
    now = ended(taskcontrol.enqueue(tasks.celery_retry, until=9, max_retries=1))

    assert (now.status, now.attempt) == (Status.FAILED, 2)


def test_retry_may_change_the_arguments(worker):
    now = ended(taskcontrol.enqueue(tasks.celery_retry_with_others, number=1))

    assert (now.status, now.result, now.attempt) == (Status.FINISHED, 3, 3)


def test_autoretry_becomes_ours(worker, record):
    now = ended(taskcontrol.enqueue(tasks.celery_autoretry))

    assert (now.status, now.attempt, now.retry_count) == (Status.FAILED, 3, 2)
    assert "ValueError: always" in now.error_message
    assert len(record.lines("started")) == 3


def test_a_celery_task_that_merely_fails_is_not_retried(worker, record):
    now = ended(taskcontrol.enqueue(tasks.celery_fail))

    assert (now.status, now.attempt) == (Status.FAILED, 1)


def test_ignore_is_an_end_without_a_result(worker):
    now = ended(taskcontrol.enqueue(tasks.celery_ignore))

    assert (now.status, now.result, now.error_message) == (Status.FINISHED, None, "")


@pytest.mark.parametrize("requeue", [False, True])
def test_reject_fails_readably_and_once(worker, record, requeue):
    now = ended(taskcontrol.enqueue(tasks.celery_reject, requeue=requeue))

    assert (now.status, now.attempt) == (Status.FAILED, 1)
    assert "Reject" in now.error_message
    assert len(record.lines("started")) == 1


def test_beside_us_a_celery_task_stays_celerys(worker):
    ended(taskcontrol.enqueue(tasks.celery_add, left=1, right=1))
    result = tasks.celery_add.delay(20, 22)

    assert eventually(lambda: result.ready() and result.get(timeout=5)) == 42
    assert TaskLog.objects.count() == 1


def test_beside_us_its_retry_stays_celerys(worker, record):
    ended(taskcontrol.enqueue(tasks.celery_retry, until=0))  # the task is patched now
    record.clear()
    for _ in range(2):
        tasks.celery_retry.delay(until=2)

    # Not its state: Celery may store a retry after the success of what was retried.
    eventually(lambda: len(record.lines("started")) == 6)
    assert Counter(line["retries"] for line in record.lines("started")) == {
        0: 2,
        1: 2,
        2: 2,
    }
    assert TaskLog.objects.count() == 1


def test_a_celery_task_started_from_our_body_stays_celerys(worker):
    now = ended(taskcontrol.enqueue(tasks.delay_celery_add))

    result = current_app.AsyncResult(now.result)
    assert eventually(lambda: result.ready() and result.get()) == 3
    assert TaskLog.objects.count() == 1


def test_a_celery_task_called_inside_our_body_is_a_plain_call(worker):
    now = ended(taskcontrol.enqueue(tasks.call_celery_retry))

    assert now.result == "celery's own Retry, not ours"
    assert TaskAttempt.objects.count() == 0


def test_a_celery_task_enqueues_with_its_creator(worker):
    from tests.factories import make_user

    ann = make_user("ann")
    now = ended(taskcontrol.enqueue(tasks.celery_whoami, created_by=ann))

    assert now.result == "ann"
