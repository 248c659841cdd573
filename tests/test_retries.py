"""Retries: the sweep of what is due, and those that somebody asks for."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import InvalidTransition, TaskNotFound
from taskcontrol.failures import delay_before_retry
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago
from tests.test_lifecycle import statements
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.mark.parametrize("column", ["run_at", "expires_at"])
@pytest.mark.parametrize("age", [-3600, 3600])
def test_a_retry_by_hand_is_ready_at_once_whatever_time_the_task_had(column, age):
    task = make_task(Status.CANCELED, **{column: seconds_ago(age)})

    taskcontrol.retry(task)

    task.refresh_from_db()
    assert (task.status, task.ready_lane) == (Status.PENDING, task.lane)
    assert (task.run_at, task.expires_at) == (None, None)


def test_a_retry_by_hand_waits_for_the_body_that_may_still_run():
    task = make_task(Status.CANCELED, occupies=True)

    taskcontrol.retry(task)

    task.refresh_from_db()
    assert (task.status, task.ready_lane) == (Status.PENDING, None)


# The sweep


def failed(due=1, **columns):
    """Store a failed task whose retry is due since (or, if negative, in) ``due`` seconds."""
    columns = {"max_retries": 3, **columns}
    return make_task(Status.FAILED, retry_at=seconds_ago(due), **columns)


def statuses():
    return list(TaskLog.objects.order_by("pk").values_list("status", flat=True))


def test_the_sweep_retries_what_is_due_and_nothing_else():
    failed(due=5)
    failed(due=-60)
    make_task(Status.FAILED, max_retries=3)
    make_task(Status.CANCELED)
    failed(due=1)

    assert retry_failed_tasks() == 2

    assert statuses() == ["Pending", "Failed", "Failed", "Canceled", "Pending"]
    assert retry_failed_tasks() == 0


def test_retries_never_pass_their_number_p7():
    task = failed(retry_count=3)

    assert retry_failed_tasks() == 0

    task.refresh_from_db()
    assert (task.status, task.retry_count) == (Status.FAILED, 3)


def test_the_sweep_takes_a_page_of_the_longest_due(conf):
    conf(SWEEP_PAGE=2)
    failed(due=1)
    failed(due=30)
    failed(due=20)

    assert retry_failed_tasks() == 2
    assert statuses() == ["Failed", "Pending", "Pending"]
    assert retry_failed_tasks() == 1


def poison(task):
    """Let the retry of a task fail in the database: its attempt is kept already."""
    TaskAttempt.objects.create(task=task, attempt=task.attempt, status=task.status)
    return task


def test_one_poisoned_row_stops_neither_the_sweep_nor_the_dispatcher_p1(broker, caplog):
    make_worker(pool_size=10)
    make_type()
    bad = poison(failed(due=60))
    good = [failed(due=30) for _ in range(3)]

    assert dispatch_pending() == 3

    assert {row.status for row in TaskLog.objects.filter(pk__in=[t.pk for t in good])} == {
        Status.QUEUED
    }
    bad.refresh_from_db()
    assert (bad.status, bad.retry_count, bad.ready_lane) == (Status.FAILED, 0, None)
    assert f"Task {bad.pk} could not be retried" in caplog.text


def test_a_page_of_poisoned_rows_at_the_head_starves_nobody(conf, caplog):
    conf(SWEEP_PAGE=2)
    bad = [poison(failed(due=60)).pk for _ in range(5)]
    good = [failed(due=30).pk for _ in range(2)]

    retry_failed_tasks()

    stand = TaskLog.objects.in_bulk()
    assert {stand[pk].status for pk in bad} == {Status.FAILED}
    assert {stand[pk].status for pk in good} == {Status.PENDING}
    assert caplog.text.count("could not be retried") >= len(bad)


def test_what_is_due_at_one_moment_is_read_page_by_page_too(conf):
    conf(SWEEP_PAGE=2)
    bad = [poison(failed(due=60)) for _ in range(3)]
    good = failed(due=60)
    TaskLog.objects.update(retry_at=bad[0].retry_at)

    retry_failed_tasks()

    good.refresh_from_db()
    assert good.status == Status.PENDING


def test_the_sweep_is_two_statements_for_a_page_and_one_for_nothing():
    with CaptureQueriesContext(connection) as queries:
        retry_failed_tasks()
    assert len(statements(queries)) == 1

    for _ in range(20):
        failed()
    with CaptureQueriesContext(connection) as queries:
        assert retry_failed_tasks() == 20
    assert len(statements(queries)) <= 6


@pytest.mark.django_db(transaction=True)
def test_four_sweeps_at_once_count_each_retry_once_p7():
    tasks = [failed() for _ in range(100)]

    answers = race(*[retry_failed_tasks] * 4)

    # A sweep leaves out the rows that another one holds; the next sweep takes them.
    assert sum(answers) + retry_failed_tasks() == len(tasks)
    assert set(TaskLog.objects.values_list("status", "retry_count")) == {
        (Status.PENDING, 1)
    }
    assert TaskAttempt.objects.count() == len(tasks)


# By hand


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED])
@pytest.mark.parametrize("form", ["row", "name", "key"])
def test_a_task_is_retried_by_hand_however_it_is_named(status, form):
    task = make_task(status, retry_count=2)
    given = {"row": task, "name": task.name, "key": task.pk}[form]

    row = taskcontrol.retry(given)

    assert (row.pk, row.status, row.retry_count) == (task.pk, Status.PENDING, 3)


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.FAILED, Status.CANCELED}))
def test_what_has_not_failed_is_not_retried_p7(status):
    task = make_task(status)

    with pytest.raises(InvalidTransition, match=f"is {status}; only Failed or Canceled"):
        taskcontrol.retry(task)

    task.refresh_from_db()
    assert (task.status, task.rev) == (status, 0)


def test_a_retry_by_hand_may_pass_the_number_of_retries():
    task = make_task(Status.FAILED, max_retries=1, retry_count=1, lost_count=3)

    row = taskcontrol.retry(task)

    assert (row.retry_count, row.lost_count) == (2, 0)


def test_a_retry_now_is_first_in_line_and_still_under_the_limit_p4(broker):
    make_worker(pool_size=1)
    make_type("m.full", concurrency_limit=1)
    make_task(Status.STARTED, method="m.full")
    first = make_task(Status.FAILED)
    full = make_task(Status.FAILED, method="m.full")
    make_task(at_front=True, position=1)

    taskcontrol.retry(full, now=True)
    taskcontrol.retry(first, now=True)
    dispatch_pending()

    first.refresh_from_db()
    full.refresh_from_db()
    assert (first.status, full.status) == (Status.QUEUED, Status.PENDING)


def test_a_retry_needs_the_permission_or_the_right_of_the_owner_p8():
    owner, other, boss = (
        make_user("ann"),
        make_user("bob"),
        make_user("eve", "retry_tasklog"),
    )
    task = make_task(Status.FAILED, created_by=owner)

    for user in (owner, other):
        with pytest.raises(PermissionError, match="may not retry"):
            taskcontrol.retry(task, user=user)
    make_type(task.method, owner_may_retry=True)
    taskcontrol.retry(task, user=owner)
    taskcontrol.cancel(task)
    taskcontrol.retry(task, user=boss)

    events = task.events.filter(kind="retried").values_list("actor__username", flat=True)
    assert list(events) == ["ann", "eve"]


def test_a_task_that_is_gone_is_not_found():
    task = make_task(Status.FAILED)
    TaskLog.objects.all().delete()

    for given in (task, task.name, task.pk, "no number", None):
        with pytest.raises(TaskNotFound, match="no task"):
            taskcontrol.retry(given)


def test_the_delay_is_the_tasks_own():
    assert delay_before_retry(make_task(retry_delay=2.5)) == 2.5
    assert delay_before_retry(make_task()) == 0
