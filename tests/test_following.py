"""A task with ``after=`` begins when the other one is over, however it ended."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import following, lifecycle
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.enqueueing import enqueue
from taskcontrol.exceptions import TaskNotFound
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.test_explanation import reason
from tests.waiting import beside, race_over

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.databases,
    pytest.mark.usefixtures("broker"),
]


@pytest.fixture(autouse=True)
def known_type(db):
    """A type that was looked at, else only one of it may run."""
    make_type()


def follower_of(task, **columns):
    return make_task(after=task, ready_lane=None, **columns)


def is_let_go(task):
    dispatch_pending()
    task.refresh_from_db()
    return task.status == Status.QUEUED and task.after_id is None


# The call


def test_a_task_stands_in_no_line_while_another_is_to_be_waited_for():
    first = make_task(Status.STARTED)

    by_row, by_name = (enqueue(tasks.nothing, after=one) for one in (first, first.name))

    assert {one.after_id for one in (by_row, by_name)} == {first.pk}
    assert by_row.ready_lane is None
    assert by_row.status == Status.PENDING


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.CANCELED])
def test_a_task_that_is_over_at_the_call_holds_nothing_up(status):
    task = enqueue(tasks.nothing, after=make_task(status))

    assert (task.after_id, task.ready_lane) == (None, task.lane)


def test_a_task_whose_body_still_runs_is_to_be_waited_for():
    first = make_task(Status.CANCELED, occupies=True)

    assert enqueue(tasks.nothing, after=first).after_id == first.pk


@pytest.mark.parametrize("name", ["4711", "none", "-1", "²", "1.0"])
def test_a_task_that_does_not_exist_is_refused(name):
    with pytest.raises(TaskNotFound, match=f"There is no task '{name}'"):
        enqueue(tasks.nothing, after=name)
    assert not TaskLog.objects.exists()


def test_a_deleted_row_is_refused():
    gone = make_task()
    TaskLog.objects.filter(pk=gone.pk).delete()

    with pytest.raises(TaskNotFound, match=f"There is no task '{gone.pk}'"):
        enqueue(tasks.nothing, after=gone)


# The pass


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.CANCELED])
def test_the_pass_lets_a_task_go_when_the_other_has_ended(status):
    make_worker()
    assert is_let_go(follower_of(make_task(status)))


@pytest.mark.parametrize(
    "columns",
    [
        {"status": Status.PENDING, "run_at": seconds_ago(-60)},
        {"status": Status.PAUSED},
        {"status": Status.QUEUED},
        {"status": Status.STARTED},
        {"status": Status.FAILED, "retry_at": seconds_ago(-60), "max_retries": 1},
        {"status": Status.CANCELED, "occupies": True},
    ],
    ids=lambda columns: f"{columns['status']}{len(columns)}",
)
def test_it_waits_while_the_other_may_still_run(columns):
    make_worker()
    assert not is_let_go(follower_of(make_task(**columns)))


def test_a_task_that_is_gone_holds_nothing_up():
    make_worker()
    first = make_task(Status.STARTED)
    task = follower_of(first)
    TaskLog.objects.filter(pk=first.pk).delete()

    assert is_let_go(task)


def test_its_own_time_counts_too():
    make_worker()
    over = make_task(Status.FINISHED)
    later = follower_of(over, run_at=seconds_ago(-60))
    due = follower_of(make_task(Status.STARTED), run_at=seconds_ago(1))

    assert not is_let_go(later)
    assert not is_let_go(due)
    assert later.after_id is None


def test_a_paused_task_still_waits_for_the_other_when_it_is_resumed():
    make_worker()
    first = make_task(Status.STARTED)
    task = follower_of(first)
    taskcontrol.pause(task)
    taskcontrol.resume(task)

    assert not is_let_go(task)
    lifecycle.finish(first.pk, 1)
    assert is_let_go(task)


def test_a_retry_by_hand_waits_for_nobody():
    make_worker()
    task = follower_of(make_task(Status.STARTED))
    taskcontrol.cancel(task)

    taskcontrol.retry(task)

    assert is_let_go(task)


def test_a_chain_goes_on_link_by_link():
    make_worker(pool_size=9)
    first = make_task(Status.STARTED)
    second = follower_of(first)
    third = follower_of(second)
    lifecycle.finish(first.pk, 1)

    assert is_let_go(second)
    assert not is_let_go(third)


def test_all_are_looked_after_in_turn(monkeypatch):
    monkeypatch.setattr(following, "PAGE", 2)
    make_worker(pool_size=9)
    running = [make_task(Status.STARTED) for _ in range(7)]
    for one in running:
        follower_of(one)
    lifecycle.finish(running[-1].pk, 1)

    assert sum(dispatch_pending() for _ in range(4)) == 1


def test_it_costs_a_pass_nothing_while_nobody_waits():
    dispatch_pending()
    alone = _statements_of_a_pass()
    follower_of(make_task(Status.STARTED))
    waiting = _statements_of_a_pass()

    assert waiting == alone + 1


def _statements_of_a_pass():
    with CaptureQueriesContext(connection) as statements:
        dispatch_pending()
    # A pass that did nothing rolls back, here to a savepoint.
    return sum("SAVEPOINT" not in one["sql"] for one in statements)


def test_explain_names_the_task_that_it_comes_after():
    first = make_task(Status.STARTED)
    task = follower_of(first)

    found = reason(task, "after")
    assert found.text == f"It comes after task {first.pk}, which is Started."
    assert found.holders == (first.pk,)

    TaskLog.objects.filter(pk=first.pk).update(
        status=Status.FAILED, ended_at=seconds_ago(1), retry_at=seconds_ago(-60)
    )
    assert "which is Failed and will be retried." in reason(task, "after").text
    TaskLog.objects.filter(pk=first.pk).update(retry_at=None)
    assert "which is Failed and still stopping." in reason(task, "after").text
    TaskLog.objects.filter(pk=first.pk).update(occupies=False)
    assert "which is over: the next pass frees it." in reason(task, "after").text


# Races


@pytest.mark.django_db(transaction=True)
def test_no_end_is_missed_by_a_task_that_is_enqueued_meanwhile():
    make_worker(pool_size=99)
    running = [make_task(Status.STARTED) for _ in range(25)]

    race_over(
        running,
        lambda one: enqueue(tasks.nothing, after=one),
        lambda one: lifecycle.finish(one.pk, 1),
    )
    dispatch_pending()

    assert TaskLog.objects.filter(status=Status.QUEUED).count() == 25


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_an_open_transaction_keeps_no_task_from_ending():
    first = make_task(Status.STARTED)

    with transaction.atomic():
        enqueue(tasks.nothing, after=first)
        assert beside(lambda: lifecycle.finish(first.pk, 1))


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_follower_that_somebody_changes_stops_no_pass():
    make_worker()
    task = follower_of(make_task(Status.FINISHED))

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=task.pk)
        assert beside(dispatch_pending) == 0
    assert is_let_go(task)
