"""Celery tasks run through their own ``run``, and their retries go through the ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app, shared_task
from celery.exceptions import Ignore, Reject, Retry as CelerysRetry
from django.utils import timezone

import taskcontrol
from taskcontrol import execution, lifecycle
from taskcontrol.arguments import decode
from taskcontrol.context import current_task
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.status import Status
from tests import tasks

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
    pytest.mark.usefixtures("broker"),
]


WAYS: dict[str, Any] = {
    "countdown": lambda task, how: task.retry(countdown=77),
    "eta": lambda task, how: task.retry(eta=timezone.now() + timedelta(seconds=77)),
    "default": lambda task, how: task.retry(),
    "other arguments": lambda task, how: task.retry(
        countdown=0, kwargs={"how": how, "value": {2}, "b": 3}
    ),
    "positional arguments": lambda task, how: task.retry(countdown=0, args=[how, 5]),
    "no more": lambda task, how: task.retry(max_retries=0, exc=KeyError("own")),
    "no more, no error": lambda task, how: task.retry(max_retries=0),
}


@shared_task(bind=True)
def again(self: Any, how: str, value: Any = None, **more: Any) -> Any:
    """Ask for another attempt in one of Celery's many ways."""
    running = current_task()
    if running is not None and running.attempt > 1:
        return [str(value), more]
    if how == "nothing thrown":
        raise self.retry(countdown=77, throw=False)
    return WAYS[how](self, how)


@shared_task(bind=True, autoretry_for=(Exception,), max_retries=2, default_retry_delay=5)
def again_by_itself_too(self: Any) -> None:
    """Ask with a countdown, inside of what Celery retries by itself."""
    self.retry(countdown=77)


@shared_task(bind=True, max_retries=None)
def for_ever(self: Any) -> None:
    """Ask without an end."""
    self.retry(countdown=0)


@shared_task
def calls_another() -> Any:
    """Call another Celery task directly, as a function."""
    return tasks.celery_add(20, 22)


@shared_task(bind=True)
def raises(self: Any, what: str) -> None:
    """Raise what Celery's worker would understand."""
    raise {"ignore": Ignore(), "reject": Reject("no"), "error": ValueError("bad")}[what]


def run(task):
    """Run the task's next attempt; return its row."""
    (promoted,) = lifecycle.promote([task.pk], site="0a1b2c3d")
    execution.run(task.pk, promoted.attempt)
    return TaskLog.objects.get(pk=task.pk)


def waits(row):
    return (row.retry_at - row.ended_at).total_seconds()


def test_a_celery_task_runs_and_its_result_is_kept():
    row = run(taskcontrol.enqueue(tasks.celery_add, left=1, right=2))

    assert (row.status, row.result) == (Status.FINISHED, 3)


def test_a_bound_task_has_a_request_of_its_own():
    row = run(taskcontrol.enqueue(tasks.celery_request))

    assert row.result == {"id": row.celery_task_id, "retries": 0, "eager": False}
    assert row.celery_task_id == f"0a1b2c3d-{row.pk}-1"


def test_nothing_stays_of_the_request():
    run(taskcontrol.enqueue(tasks.celery_request))

    task = current_app.tasks["tests.tasks.celery_request"]
    assert task.request.id is None
    assert task.request.called_directly is True
    assert current_app.current_task is None


def test_nothing_stays_of_the_request_of_a_task_that_failed():
    row = run(taskcontrol.enqueue(raises, what="error"))

    assert row.status == Status.FAILED
    assert current_app.tasks[raises.name].request.id is None


def test_a_task_that_calls_another_as_a_function_gets_its_value():
    assert run(taskcontrol.enqueue(calls_another)).result == 42


@pytest.mark.parametrize(
    ("what", "status"),
    [("ignore", Status.FINISHED), ("reject", Status.FAILED), ("error", Status.FAILED)],
)
def test_what_celerys_worker_would_understand_ends_the_task(what, status):
    assert run(taskcontrol.enqueue(raises, what=what)).status == status


# Retries


def test_self_retry_goes_through_the_ledger_until_it_is_done_p7(broker, record):
    task = taskcontrol.enqueue(tasks.celery_retry, until=2)

    seen = []
    for _ in range(3):
        row = run(task)
        seen.append((row.status, row.retry_count, row.attempt))
        retry_failed_tasks()

    assert seen == [
        (Status.FAILED, 0, 1),
        (Status.FAILED, 1, 2),
        (Status.FINISHED, 2, 3),
    ]
    assert [line["retries"] for line in record.lines("started")] == [0, 1, 2]
    assert TaskAttempt.objects.count() == 2
    assert "ValueError: not yet" in TaskAttempt.objects.first().error_message
    assert broker.messages("default") == 0  # Celery published nothing past the ledger


def test_a_task_that_always_asks_ends_with_its_own_error_p7():
    task = taskcontrol.enqueue(tasks.celery_retry, until=99)
    for _ in range(3):
        row = run(task)
        retry_failed_tasks()

    assert (row.status, row.retry_count, row.retry_at) == (Status.FAILED, 2, None)
    assert row.error_message.endswith("ValueError: not yet")


def test_autoretry_goes_through_the_ledger_p7(record):
    task = taskcontrol.enqueue(tasks.celery_autoretry)
    rows = []
    for _ in range(3):
        rows.append(run(task))
        TaskLog.objects.exclude(retry_at=None).update(retry_at=rows[-1].ended_at)
        retry_failed_tasks()

    assert [row.retry_at is None for row in rows] == [False, False, True]
    assert [line["retries"] for line in record.lines("started")] == [0, 1, 2]
    assert "ValueError: always" in rows[-1].error_message


def test_a_failure_that_did_not_ask_is_not_retried():
    row = run(taskcontrol.enqueue(raises, what="error"))

    assert (row.max_retries, row.retry_at) == (3, None)


def test_a_failure_is_retried_when_the_call_says_how_often():
    row = run(taskcontrol.enqueue(raises, what="error", max_retries=1))

    assert row.retry_at is not None


@pytest.mark.parametrize(
    ("how", "seconds"),
    [("countdown", 77), ("eta", 77), ("default", 180), ("nothing thrown", 77)],
)
def test_every_way_to_ask_is_understood(how, seconds):
    row = run(taskcontrol.enqueue(again, how=how))

    assert row.status == Status.FAILED
    assert waits(row) == pytest.approx(seconds, abs=2)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("other arguments", ["{2}", {"b": 3}]), ("positional arguments", ["5", {}])],
)
def test_a_task_may_ask_with_other_arguments(how, expected):
    task = taskcontrol.enqueue(again, how=how)
    row = run(task)
    assert str(decode(row.arguments)["value"]) == expected[0]
    retry_failed_tasks()

    row = run(task)

    assert (row.status, row.attempt, row.result) == (Status.FINISHED, 2, expected)


@pytest.mark.parametrize(
    ("how", "said"),
    [("no more", "KeyError: 'own'"), ("no more, no error", "MaxRetriesExceededError")],
)
def test_a_task_that_may_not_ask_any_more_fails(how, said):
    row = run(taskcontrol.enqueue(again, how=how))

    assert (row.status, row.retry_at) == (Status.FAILED, None)
    assert said in row.error_message


def test_a_countdown_counts_also_where_celery_retries_by_itself():
    row = run(taskcontrol.enqueue(again_by_itself_too))

    assert waits(row) == pytest.approx(77, abs=2)


def test_a_task_without_an_end_of_retries_goes_on():
    row = run(taskcontrol.enqueue(for_ever))

    assert (row.max_retries, row.retry_at is None) == (32767, False)


# Outside of our bodies


def test_a_task_that_celery_runs_is_celerys():
    run(taskcontrol.enqueue(tasks.celery_retry, until=0))  # takes over its retries

    result = tasks.celery_retry.apply(kwargs={"until": 1})

    assert result.result == 1
    with pytest.raises(ValueError, match="not yet"):
        tasks.celery_retry(until=1)


def test_a_task_that_is_sent_by_celery_from_a_body_is_celerys(broker):
    @shared_task(name="tests.sends")
    def sends() -> str:
        return str(tasks.celery_add.delay(1, 2).id)

    row = run(taskcontrol.enqueue("tests.sends"))

    assert row.status == Status.FINISHED, row.error_message
    assert broker.messages("default") == 1


def test_what_is_asked_is_celerys_retry():
    """Else a task's own ``except Retry: raise`` would not see it."""
    from taskcontrol.celerytasks import RetryAsked

    assert issubclass(RetryAsked, CelerysRetry)
