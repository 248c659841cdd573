"""Cancel stops a task wherever it is, and the row decides."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol.exceptions import NotPermitted, TaskNotFound
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_user, seconds_ago
from tests.test_lifecycle import statements

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

CANCELABLE = [Status.PENDING, Status.PAUSED, Status.QUEUED, Status.STARTED]


@pytest.mark.parametrize("status", CANCELABLE)
@pytest.mark.parametrize("form", ["row", "name", "key", "delegate"])
def test_what_has_not_ended_is_canceled_however_it_is_named_p6(status, form):
    task = make_task(status)

    if form == "delegate":
        canceled = task.cancel(reason="enough")
    else:
        given = {"row": task, "name": task.name, "key": task.pk}[form]
        canceled = taskcontrol.cancel(given, reason="enough")

    row = TaskLog.objects.get(pk=task.pk)
    assert canceled is True
    assert (row.status, row.ended_reason, row.ready_lane) == (
        Status.CANCELED,
        "enough",
        None,
    )
    assert row.ended_at is not None
    assert row.ended
    assert (row.cancel_requested_at is not None) is (status is Status.STARTED)
    assert row.occupies is (status is Status.STARTED)


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.CANCELED])
def test_what_has_ended_stays_as_it_is_p7(status):
    task = make_task(status)

    assert taskcontrol.cancel(task) is False

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.rev, row.events.count()) == (status, 0, 0)


def test_a_retry_that_is_due_is_canceled_and_the_failure_stays_readable():
    task = make_task(
        Status.FAILED, retry_at=seconds_ago(-60), max_retries=1, error_message="E: bad"
    )

    assert taskcontrol.cancel(task) is True

    task.refresh_from_db()
    assert (task.status, task.retry_at, task.error_message) == (
        Status.CANCELED,
        None,
        "E: bad",
    )


def test_the_row_that_was_given_says_what_became_of_it():
    task = make_task()

    taskcontrol.cancel(task)

    assert (task.status, task.rev) == (Status.CANCELED, 1)


def test_a_stale_row_cancels_what_is_there_now():
    stale = make_task()
    TaskLog.objects.filter(pk=stale.pk).update(
        status=Status.FINISHED, ended_at=seconds_ago(0), ready_lane=None
    )

    assert taskcontrol.cancel(stale) is False


def test_an_act_is_recorded_with_its_person_and_reason():
    user = make_user("ann", "cancel_tasklog")
    task = make_task(Status.QUEUED)

    taskcontrol.cancel(task, reason="wrong file", user=user)

    event = TaskEvent.objects.get()
    assert (event.kind, event.actor, event.detail, event.old, event.attempt) == (
        TaskEvent.Kind.CANCELED,
        user,
        "wrong file",
        Status.QUEUED,
        1,
    )
    assert TaskLog.objects.get().canceled_by == user


def test_a_cancel_needs_the_permission_or_the_right_of_the_owner_p8():
    owner, other = make_user("ann"), make_user("bob")
    task = make_task(created_by=owner)

    with pytest.raises(NotPermitted, match="bob may not cancel task"):
        taskcontrol.cancel(task, user=other)
    kind = make_type(task.method, owner_may_cancel=False)
    with pytest.raises(NotPermitted):
        taskcontrol.cancel(task, user=owner)
    assert TaskLog.objects.get().status == Status.PENDING

    kind.owner_may_cancel = True
    kind.save()
    assert taskcontrol.cancel(task, user=owner) is True


@pytest.mark.parametrize("given", ["", "0", "-1", "x", None, 10**30, 1.5], ids=str)
def test_what_is_no_task_is_not_found(given):
    make_task()

    with pytest.raises(TaskNotFound):
        taskcontrol.cancel(given)


def test_a_task_that_was_deleted_cannot_be_canceled():
    task = make_task()
    TaskLog.objects.all().delete()

    assert taskcontrol.cancel(task) is False


@pytest.mark.only_on("postgresql", "sqlite")
def test_a_cancel_is_few_statements():
    task = make_task()

    with CaptureQueriesContext(connection) as queries:
        taskcontrol.cancel(task)

    assert len(statements(queries)) <= 4
