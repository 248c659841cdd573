"""A key belongs to one task that has not ended, whoever asks at the same moment."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import lifecycle
from taskcontrol.exceptions import InvalidTransition, KeyBusy, KeyTaken
from taskcontrol.keys import Hold, Key, as_options, free_slot, give, holders, keys_of, lock
from taskcontrol.models import TaskKey, TaskLog
from taskcontrol.retries import retry
from taskcontrol.status import TERMINAL, Status
from tests.factories import make_task, seconds_ago
from tests.waiting import beside, race

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

NIGHTLY = Key("nightly")


def make_owner(status=Status.PENDING, key=NIGHTLY, **columns):
    """Store a task that has taken ``key``."""
    task = make_task(status, options=as_options([key]), **columns)
    take(key, task)
    return task


def take(key, task):
    with transaction.atomic():
        give([(free_slot(key, lock([key])[key]), task.pk)])


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_a_task_that_has_not_ended_holds_its_key(status):
    owner = make_owner(status)

    assert holders([NIGHTLY]) == {NIGHTLY: {0: owner}}


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_task_holds_nothing(status):
    make_owner(status)

    assert holders([NIGHTLY]) == {NIGHTLY: {}}


def test_a_failed_task_whose_retry_is_due_holds_its_key():
    owner = make_owner(Status.FAILED, retry_at=seconds_ago(-60), max_retries=1)

    assert holders([NIGHTLY])[NIGHTLY] == {0: owner}


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_a_task_that_expired_while_nobody_looked_holds_nothing_unless_it_runs(status):
    owner = make_owner(status, expires_at=seconds_ago(60))

    runs = status is Status.STARTED
    assert holders([NIGHTLY]) == {NIGHTLY: {0: owner} if runs else {}}


def test_a_task_that_expires_in_this_moment_may_be_claimed_and_holds_its_key():
    owner = make_owner(Status.QUEUED, expires_at=seconds_ago(0.1))

    assert holders([NIGHTLY]) == {NIGHTLY: {0: owner}}


def test_a_deleted_task_holds_nothing():
    owner = make_owner()
    TaskLog.objects.filter(pk=owner.pk).delete()

    assert holders([NIGHTLY])[NIGHTLY] == {}


def test_the_end_of_a_task_writes_nothing_about_its_key():
    owner = make_owner(Status.STARTED)

    with CaptureQueriesContext(connection) as queries:
        lifecycle.finish(owner.pk, owner.attempt)

    assert not [one for one in queries if "taskkey" in one["sql"]]


def test_a_key_is_taken_over_without_a_second_row():
    make_owner(Status.FINISHED)
    second = make_owner(Status.PENDING)

    assert TaskKey.objects.get().task == second


@pytest.mark.parametrize("other", ["Nightly", "nightly ", "nìghtly", "NIGHTLY"])
def test_keys_are_compared_as_written(other):
    make_owner()
    second = make_owner(key=Key(other))

    assert holders([Key(other)])[Key(other)] == {0: second}
    assert TaskKey.objects.count() == 2
    assert not TaskLog.objects.filter(job_id="NIGHTLY").exists()


def test_a_document_and_a_job_of_the_same_name_have_nothing_to_do_with_each_other():
    job, document = make_owner(), make_owner(key=Key("nightly", "document"))

    held = holders([NIGHTLY, Key("nightly", "document")])

    assert held == {NIGHTLY: {0: job}, Key("nightly", "document"): {2: document}}


def test_a_job_has_a_second_slot():
    running = make_owner(Status.STARTED)
    waiting = make_owner()

    assert holders([NIGHTLY])[NIGHTLY] == {0: running, 1: waiting}


def test_many_keys_cost_the_same_number_of_statements_as_one():
    def cost(number):
        keys = [Key(f"key-{number}-{n}") for n in range(number)]
        task = make_task()
        with CaptureQueriesContext(connection) as queries, transaction.atomic():
            lock(keys)
            give([(Hold(key, 0), task.pk) for key in keys])
        return len(queries)

    assert cost(1) == cost(50)


# Races


def locked_holders_then_take():
    with transaction.atomic():
        held = lock([NIGHTLY])[NIGHTLY]
        if held:
            return "duplicate"
        give([(Hold(NIGHTLY, 0), make_task().pk)])
        return "taken"


@pytest.mark.parametrize("before", [None, Status.FINISHED, Status.STARTED])
def test_of_many_who_take_a_key_at_once_one_gets_it(before):
    if before:
        make_owner(before)

    answers = race(*[locked_holders_then_take] * 6)

    wins = 0 if before is Status.STARTED else 1
    assert sorted(answers) == ["duplicate"] * (6 - wins) + ["taken"] * wins
    assert len(holders([NIGHTLY])[NIGHTLY]) == 1


def test_keys_are_locked_in_one_order_whatever_the_call_says():
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        lock([Key("key-b"), Key("key-a")])

    (insert,) = [one["sql"] for one in queries if "INSERT" in one["sql"]]
    assert insert.index("key-a") < insert.index("key-b")


def test_two_who_lock_many_keys_in_other_orders_do_not_block_each_other():
    keys = [Key(f"key-{n}") for n in range(50)]

    def lock_all(order):
        with transaction.atomic():
            lock(order)
        return True

    for _ in range(5):
        answers = race(lambda: lock_all(keys), lambda: lock_all(keys[::-1]))
        assert answers == [True, True]


def test_a_taker_waits_for_the_end_of_a_transaction_that_takes_the_same_key():
    locked, go_on = threading.Event(), threading.Event()

    def first():
        with transaction.atomic():
            lock([NIGHTLY])
            locked.set()
            go_on.wait(10)
            give([(Hold(NIGHTLY, 0), make_task().pk)])

    def second():
        locked.wait(10)
        threading.Timer(0.2, go_on.set).start()
        return locked_holders_then_take()

    assert race(first, second)[1] == "duplicate"


@pytest.mark.only_on("postgresql", "mysql")
def test_a_taker_does_not_wait_for_ever_and_says_for_what(conf):
    conf(KEY_WAIT=1)

    with transaction.atomic():
        lock([NIGHTLY])
        with pytest.raises(KeyBusy) as busy:
            beside(locked_holders_then_take)

    assert str(busy.value) == (
        "Another transaction enqueues under the key 'nightly' and has not ended within 1 s "
        '(TASKCONTROL["KEY_WAIT"]). Enqueue at the end of long transactions, or there with '
        "enqueue_after_commit=False."
    )
    assert busy.value.keys == ["nightly"]


@pytest.mark.only_on("postgresql")
def test_the_callers_own_lock_timeout_is_put_back():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '7s'")
        lock([NIGHTLY])
        cursor.execute("SHOW lock_timeout")

        assert cursor.fetchone() == ("7s",)


# Retries by hand


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED])
def test_a_retry_by_hand_takes_the_key_again(status):
    task = make_owner(status)

    retry(task)

    assert holders([NIGHTLY])[NIGHTLY] == {0: task}


def test_a_retry_by_hand_takes_a_key_again_that_another_had_meanwhile():
    task = make_owner(Status.FAILED)
    make_owner(Status.FINISHED)

    retry(task)

    assert holders([NIGHTLY])[NIGHTLY] == {0: task}


@pytest.mark.parametrize("status", [Status.PENDING, Status.STARTED])
def test_a_retry_by_hand_is_refused_while_another_has_the_key(status):
    task = make_owner(Status.FAILED)
    owner = make_owner(status)

    with pytest.raises(KeyTaken) as refused:
        retry(task)

    assert isinstance(refused.value, InvalidTransition)
    assert str(refused.value) == (
        f"Task {task.pk} cannot be retried: its key 'nightly' belongs to task {owner.pk} "
        f"now, which is {status} and has not ended. Retry it when that has ended, or cancel "
        "that one first."
    )
    task.refresh_from_db()
    assert task.status == Status.FAILED


def test_a_retry_by_hand_of_a_task_that_waits_for_its_automatic_one_needs_no_new_key():
    task = make_owner(Status.FAILED, retry_at=seconds_ago(-60), max_retries=2)

    retry(task)

    assert holders([NIGHTLY])[NIGHTLY] == {0: task}


def test_an_automatic_retry_never_loses_its_key():
    task = make_owner(Status.FAILED, retry_at=seconds_ago(1), max_retries=1)

    assert lifecycle.retry_due([task.pk]) == 1
    assert holders([NIGHTLY])[NIGHTLY] == {0: task}


def test_of_a_retry_and_a_new_task_at_once_one_gets_the_key():
    for _ in range(8):
        TaskLog.objects.all().delete()
        TaskKey.objects.all().delete()
        task = make_owner(Status.FAILED)

        def again(pk=task.pk):
            retry(pk)
            return "taken"

        answers = race(again, locked_holders_then_take)

        assert sorted(
            "refused" if isinstance(one, KeyTaken) else one for one in answers
        ) in (["duplicate", "taken"], ["refused", "taken"])
        assert len(holders([NIGHTLY])[NIGHTLY]) == 1


def test_of_two_failed_tasks_that_are_retried_at_once_one_gets_the_key():
    first, second = make_owner(Status.FAILED), make_owner(Status.FAILED)

    answers = race(lambda: retry(first.pk), lambda: retry(second.pk))

    assert sorted(type(one).__name__ for one in answers) == ["KeyTaken", "TaskLog"]


def test_the_keys_of_a_task_stand_in_its_options():
    keys = [NIGHTLY, Key("Invoice.send:7", "document")]

    assert keys_of(make_task(options=as_options(keys)).options) == keys
    assert keys_of(make_task().options) == []
