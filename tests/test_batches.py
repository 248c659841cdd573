"""The numbers of a batch are those of its rows, at any moment."""

from __future__ import annotations

import itertools

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import batches
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.pruning import prune_ended_tasks
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_user, seconds_ago
from tests.test_lifecycle import statements
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def member(status, **columns):
    return make_task(status, batch_id="b", **columns)


def long_ago(status):
    return {"ended_at": seconds_ago(10**8)} if status in {"Finished", "Canceled"} else {}


# Growth


def test_a_batch_is_made_when_it_first_grows():
    user = make_user("ann")

    batches.grow("b", 3, created_by=user, title="Letters")
    batches.grow("b", 2)

    row = TaskBatch.objects.get()
    assert (row.pk, row.total, row.created_by, row.title) == ("b", 5, user, "Letters")


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_grows_at_many_places_counts_all_p9():
    race(*[lambda: batches.grow("b", 10)] * 6)

    assert TaskBatch.objects.get().total == 60


@pytest.mark.only_on("postgresql", "sqlite")  # MariaDB ends the others in deadlocks
@pytest.mark.django_db(transaction=True)
def test_many_who_enqueue_into_one_batch_all_succeed_p9():
    def enqueue():
        return taskcontrol.enqueue(tasks.nothing, batch_id="b").pk

    answers = race(*[enqueue] * 6)

    assert all(isinstance(answer, int) for answer in answers), answers
    assert TaskBatch.objects.get().total == TaskLog.objects.count() == 6


def test_a_batch_that_had_ended_goes_on_when_it_grows():
    TaskBatch.objects.create(id="b", total=1, ended_at=seconds_ago(5))

    batches.grow("b", 1)

    assert TaskBatch.objects.get().ended_at is None


# Numbers


def test_every_status_is_counted_p9():
    for number, status in enumerate(Status, start=1):
        for _ in range(number):
            member(status)
    make_task(Status.FINISHED, batch_id="other")

    assert batches.counts("b") == {status: n for n, status in enumerate(Status, start=1)}


def test_a_batch_without_members_counts_nothing():
    assert batches.counts("b") == dict.fromkeys(Status.values, 0)
    assert batches.progress("b") == {"done": 0, "failed": 0, "canceled": 0, "total": 0}


def test_a_failure_whose_retry_is_due_is_not_done_p9():
    member(Status.FINISHED)
    member(Status.CANCELED)
    member(Status.FAILED)
    member(Status.FAILED, retry_at=seconds_ago(-60), max_retries=1)
    member(Status.STARTED)

    assert batches.progress("b") == {"done": 3, "failed": 1, "canceled": 1, "total": 5}


def test_done_reaches_the_total_after_retries_and_pruning_p9(conf):
    conf(RETENTION_DAYS={"Finished": 1, "Canceled": 1, "Failed": 1})
    ids = taskcontrol.bulk_enqueue(
        ({"method": tasks.nothing} for _ in range(6)), batch_id="b"
    )
    rows = list(TaskLog.objects.order_by("pk"))
    seen = []
    for row, end in zip(
        rows, itertools.cycle(["Finished", "Canceled", "Failed"]), strict=False
    ):
        TaskLog.objects.filter(pk=row.pk).update(
            status=end, ended_at=seconds_ago(2 * 86400), ready_lane=None
        )
        seen.append(batches.progress(ids))
        prune_ended_tasks()
        seen.append(batches.progress(ids))

    assert [one["total"] for one in seen] == [6] * 12
    assert [one["done"] for one in seen] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert seen[-1] == {"done": 6, "failed": 2, "canceled": 2, "total": 6}
    assert not TaskLog.objects.exists()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("event", ["prune", "retry", "fail"])
def test_numbers_that_change_while_they_are_read_never_pass_the_total_p9(event, number):
    """Something happens before each of the statements that read them."""
    TaskBatch.objects.create(id="b", total=3)
    member(Status.FINISHED, ended_at=seconds_ago(10**8))
    retried = member(Status.FAILED, retry_at=seconds_ago(1), max_retries=1)
    failing = member(Status.STARTED)
    asked = itertools.count(1)

    def happen(execute, sql, params, many, context):
        if sql.startswith("SELECT") and next(asked) == number:
            if event == "prune":
                prune_ended_tasks()
            if event == "retry":
                taskcontrol.retry(retried)
            if event == "fail":
                TaskLog.objects.filter(pk=failing.pk).update(
                    status=Status.FAILED, ended_at=seconds_ago(0), retry_at=seconds_ago(-9)
                )
        return execute(sql, params, many, context)

    with connection.execute_wrapper(happen):
        told = batches.progress("b")

    assert told["total"] == 3
    assert 0 <= told["done"] <= 1
    assert told["failed"] == 0
    assert batches.progress("b") == {"done": 1, "failed": 0, "canceled": 0, "total": 3}


# Many at once


def test_the_numbers_of_many_batches_are_those_of_each():
    for name, status in itertools.product("abc", Status):
        make_task(status, batch_id=name, **long_ago(status))
    make_task(Status.FAILED, batch_id="a", retry_at=seconds_ago(-5))
    rows = [TaskBatch.objects.create(id=name, total=7) for name in "abcd"]
    prune_ended_tasks()
    rows = list(TaskBatch.objects.order_by("pk"))

    found = batches.counts_of(rows)

    for name in "abcd":
        expected = {status: n for status, n in batches.counts(name).items() if n}
        done = batches.progress(name)["done"]
        assert {k: v for k, v in found[name].items() if v and k != "done"} == expected
        assert found[name]["done"] == done


def test_the_numbers_of_many_batches_cost_as_much_as_those_of_one():
    def cost(rows):
        with CaptureQueriesContext(connection) as queries:
            batches.counts_of(rows)
        return len(statements(queries))

    rows = [TaskBatch.objects.create(id=str(n)) for n in range(20)]
    assert cost(rows) == cost(rows[:1]) == 1
