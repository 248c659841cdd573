"""Ends as results of Celery: AsyncResult knows them, for the types that want it."""

from __future__ import annotations

import pytest
from celery.result import AsyncResult
from django_celery_results.models import TaskResult

import taskcontrol
from taskcontrol import lifecycle
from taskcontrol.celeryapp import project_app
from taskcontrol.models import TaskLog
from tests.factories import make_type
from tests.test_callbacks import OutOfStock, ran, sell

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


@pytest.fixture
def stored():
    """The type of ``sell`` wants its ends stored."""
    make_type("tests.test_callbacks.sell", store_celery_result=True)


def result_of(task):
    return AsyncResult(TaskLog.objects.get(pk=task.pk).celery_task_id)


def test_a_finished_task_is_a_success_of_celery(stored):
    done = result_of(ran(taskcontrol.enqueue(sell, number=3)))

    assert (done.state, done.result, done.traceback) == ("SUCCESS", 3, None)


def test_a_failed_task_is_a_failure_of_celery_with_its_error(stored):
    failed = result_of(ran(taskcontrol.enqueue(sell)))

    assert failed.state == "FAILURE"
    assert isinstance(failed.result, OutOfStock)
    assert str(failed.result) == "none is left:\n  come back tomorrow"


def test_extended_results_have_the_name_and_the_traceback(stored, settings):
    settings.CELERY_RESULT_EXTENDED = True

    task = ran(taskcontrol.enqueue(sell))

    assert result_of(task).traceback.startswith("Traceback (most recent call last):")
    shown = TaskResult.objects.get(task_id=task.celery_task_id)
    assert shown.task_name == "tests.test_callbacks.sell"


def test_a_failure_that_is_retried_is_a_retry_of_celery_p7(stored):
    task = ran(taskcontrol.enqueue(sell, max_retries=1))
    first = result_of(task)
    assert (first.state, type(first.result)) == ("RETRY", OutOfStock)

    lifecycle.retry_due([task.pk])
    ran(task)

    # Each attempt has an id of its own.
    assert (first.state, result_of(task).state) == ("RETRY", "FAILURE")


def test_a_canceled_task_is_revoked_for_celery(stored):
    task = taskcontrol.enqueue(sell)
    lifecycle.promote([task.pk], site="s")
    sent = result_of(task)

    taskcontrol.cancel(task)

    assert (sent.state, type(sent.result).__name__) == ("REVOKED", "TaskRevokedError")


def test_a_task_that_was_never_sent_has_nothing_to_store(stored):
    task = taskcontrol.enqueue(sell)

    assert taskcontrol.cancel(task) is True
    assert not TaskLog.objects.get(pk=task.pk).celery_task_id


def test_without_the_wish_of_its_type_nothing_is_stored(django_assert_num_queries):
    task = ran(taskcontrol.enqueue(sell, number=1))

    assert not TaskLog.objects.get(pk=task.pk).heard
    assert result_of(task).state == "PENDING"


def test_a_backend_that_is_away_harms_nothing(stored, monkeypatch, caplog):
    def away(*_args, **_options):
        raise ConnectionError("no backend")

    monkeypatch.setattr(project_app().backend, "store_result", away)

    assert ran(taskcontrol.enqueue(sell, number=1)).result == 1
    assert "tell_celery failed at the news Started -> Finished" in caplog.text
