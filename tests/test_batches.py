"""The numbers of a batch are those of its rows, at any moment."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings as hypothesis_settings, strategies as st
from hypothesis.extra.django import TestCase

import taskcontrol
from taskcontrol import batches, lifecycle
from taskcontrol.exceptions import InvalidCall, NotPermitted
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.pruning import delete_tasks, prune_ended_tasks
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.settling import settle_batches
from taskcontrol.status import TERMINAL, Status
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


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["enqueue", "bulk_enqueue"])
def test_many_who_enqueue_into_one_new_batch_all_succeed_p9(how):
    def enqueue():
        if how == "enqueue":
            return taskcontrol.enqueue(tasks.nothing, batch_id="b").pk
        return taskcontrol.bulk_enqueue([{"method": tasks.nothing}], batch_id="b")

    answers = race(*[enqueue] * 6)

    assert not any(isinstance(answer, Exception) for answer in answers), answers
    assert TaskBatch.objects.get().total == TaskLog.objects.count() == 6


def test_a_batch_that_had_ended_goes_on_when_it_grows():
    TaskBatch.objects.create(id="b", total=1, ended_at=seconds_ago(5))

    batches.grow("b", 1)

    assert TaskBatch.objects.get().ended_at is None


# Numbers


def join_as(user):
    return taskcontrol.enqueue(tasks.nothing, batch_id="of ann", created_by=user)


@pytest.mark.parametrize("user", ["bob", "visitor"])
def test_nobody_adds_to_the_batch_of_another_p8(user):
    batch = taskcontrol.create_batch("of ann", created_by=make_user("ann"))
    stranger = make_user("bob") if user == "bob" else AnonymousUser()

    with pytest.raises(
        NotPermitted, match=r"may not add tasks to batch 'of ann', which is"
    ):
        join_as(stranger)
    with pytest.raises(NotPermitted):
        taskcontrol.bulk_enqueue([{}], batch, method=tasks.nothing, created_by=stranger)

    assert not TaskLog.objects.exists()
    assert TaskBatch.objects.get(pk=batch).total == 0


def test_its_creator_the_system_and_an_operator_add_to_a_batch_p8():
    ann, operator = make_user("ann"), make_user("ola", "prioritize_tasklog")
    batch = taskcontrol.create_batch("of ann", created_by=ann)

    for user in (ann, None, operator):
        assert join_as(user).batch_id == batch

    assert TaskBatch.objects.get(pk=batch).total == 3


@pytest.mark.parametrize("user", ["bob", "visitor"])
def test_everybody_adds_to_a_batch_of_the_system(user):
    taskcontrol.create_batch("of ann", created_by=None)

    assert join_as(make_user("bob") if user == "bob" else AnonymousUser())


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


@pytest.mark.parametrize("number", [1, 2])
def test_members_that_come_while_numbers_are_read_never_pass_the_total_p9(number):
    TaskBatch.objects.create(id="b", total=1)
    member(Status.FINISHED)
    asked = itertools.count(1)

    def come(execute, sql, *given):
        if sql.startswith("SELECT") and next(asked) == number:
            batches.grow("b", 2)
            member(Status.FINISHED)
            member(Status.FINISHED)
        return execute(sql, *given)

    with connection.execute_wrapper(come):
        told = batches.progress("b")

    assert told["done"] == told["total"] == 3


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


# Any life


def one(*statuses: Status) -> Callable[[int], TaskLog | None]:
    """Return how to choose, by a number, a member that stands in one of ``statuses``."""

    def choose(number: int) -> TaskLog | None:
        rows = list(TaskLog.objects.filter(status__in=statuses).order_by("pk"))
        return rows[number % len(rows)] if rows else None

    return choose


def on_one(act: Callable[[TaskLog], Any], *statuses: Status) -> Callable[[int], Any]:
    choose = one(*statuses)

    def do(number: int) -> Any:
        task = choose(number)
        return act(task) if task else None

    return do


def begin(task: TaskLog) -> None:
    lifecycle.promote([task.pk], site="s")
    task.refresh_from_db()
    lifecycle.claim(task.pk, task.attempt, worker_id=None, pid=1)


def ended_long_ago(task: TaskLog) -> None:
    TaskLog.objects.filter(pk=task.pk).update(ended_at=seconds_ago(10**8))
    prune_ended_tasks()


#: What may happen to a batch; each takes a number, by which it chooses.
LIFE: dict[str, Callable[[int], Any]] = {
    "enqueue": lambda n: taskcontrol.enqueue(
        tasks.nothing, batch_id="b", max_retries=n % 3, paused=n % 4 == 0
    ),
    "bulk": lambda n: taskcontrol.bulk_enqueue(
        [{"method": tasks.nothing}] * (n % 4), batch_id="b"
    ),
    "once": lambda n: taskcontrol.enqueue(
        tasks.nothing, batch_id="b", job_id=str(n % 2), deduplicate=True
    ),
    "promote": on_one(lambda t: lifecycle.promote([t.pk], site="s"), Status.PENDING),
    "begin": on_one(begin, Status.PENDING, Status.QUEUED),
    "finish": on_one(lambda t: lifecycle.finish(t.pk, t.attempt), Status.STARTED),
    "fail": on_one(lambda t: lifecycle.fail(t.pk, t.attempt, error="no"), Status.STARTED),
    "fail and try again": on_one(
        lambda t: lifecycle.fail(t.pk, t.attempt, error="no", retry_in=0), Status.STARTED
    ),
    "lose": on_one(
        lambda t: lifecycle.rescue(t.pk, t.attempt, detail="lost"), Status.STARTED
    ),
    "retry what is due": lambda _: retry_failed_tasks(),
    "retry": on_one(taskcontrol.retry, Status.FAILED, Status.CANCELED),
    "cancel": on_one(taskcontrol.cancel, *Status),
    "release": on_one(lambda t: lifecycle.release(t.pk, t.attempt), Status.CANCELED),
    "pause": on_one(taskcontrol.pause, Status.PENDING),
    "resume": on_one(taskcontrol.resume, Status.PAUSED),
    "delete": on_one(lambda t: delete_tasks([t.pk]), *TERMINAL),
    "prune": on_one(ended_long_ago, Status.FINISHED, Status.CANCELED),
    "settle": lambda _: settle_batches(),
    "cancel batch": lambda _: taskcontrol.cancel_batch("b"),
    "pause batch": lambda _: taskcontrol.pause_batch("b"),
    "resume batch": lambda _: taskcontrol.resume_batch("b"),
    "retry batch": lambda n: taskcontrol.retry_batch("b", canceled=bool(n % 2)),
}
#: What brings tasks to their end comes more often, so that there is something to be counted.
USUAL = ("begin", "finish", "fail", "retry what is due", "release", "settle")
steps = st.lists(
    st.tuples(st.sampled_from([*LIFE, *USUAL * 3]), st.integers(0, 11)),
    min_size=25,
    max_size=60,
)


class Ledger:
    """What a few lines of Python know of the members of a batch, those that went included."""

    def __init__(self) -> None:
        self.last: dict[int, tuple[str, bool]] = {}
        self.rows: set[int] = set()

    def read(self) -> None:
        """Note how each row stands; what is gone keeps what it was."""
        rows = TaskLog.objects.filter(batch_id="b")
        self.rows = set()
        for pk, status, retry_at in rows.values_list("pk", "status", "retry_at"):
            self.rows.add(pk)
            self.last[pk] = status, status in TERMINAL and retry_at is None

    @property
    def progress(self) -> dict[str, int]:
        """What the room must say."""
        ended = Counter(status for status, is_over in self.last.values() if is_over)
        return {
            "done": ended.total(),
            "failed": ended["Failed"],
            "canceled": ended["Canceled"],
            "total": len(self.last),
        }

    @property
    def counts(self) -> dict[str, int]:
        """The same by status."""
        numbers = Counter(status for status, _ in self.last.values())
        return {status: numbers[status] for status in Status.values}


class AnyLife(TestCase):
    """The numbers of a batch against its rows, whatever happens to it."""

    @given(steps, st.booleans())
    @hypothesis_settings(max_examples=25, deadline=None)
    def test_the_numbers_are_those_of_the_rows_after_every_step_p9(self, life, hold):
        taskcontrol.create_batch("b", hold_on_failure=hold)
        ledger = Ledger()
        for step, number in life:
            with suppress(InvalidCall):
                LIFE[step](number)

            ledger.read()
            row = TaskBatch.objects.get()
            assert batches.progress("b") == ledger.progress, step
            assert batches.counts("b") == ledger.counts, step
            assert row.total == len(ledger.last), step
            over = ledger.progress["done"] == ledger.progress["total"]
            assert row.ended_at is None or over, step

        settle_batches()
        row = TaskBatch.objects.get()
        assert row.open_since is None or not over_now(ledger)


def over_now(ledger: Ledger) -> bool:
    ledger.read()
    return ledger.progress["done"] == ledger.progress["total"]
