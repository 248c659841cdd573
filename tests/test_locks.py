"""Locks: one at a time in whatever process, whoever dies, sleeps or waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

import taskcontrol
from taskcontrol import conflicts, possession
from taskcontrol.context import running
from taskcontrol.currenttask import CurrentTask
from taskcontrol.dialect import DatabaseNow
from taskcontrol.exceptions import InvalidCall, LockLost, LockTaken
from taskcontrol.models import Lock, TaskEvent, TaskLog
from taskcontrol.reruns import run_through_conflicts
from tests.factories import make_task
from tests.servers.environment import site_environment
from tests.waiting import beside, eventually, race

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


def is_free(key: str) -> bool:
    try:
        with taskcontrol.lock(key):
            return True
    except LockTaken:
        return False


def expire(key: str) -> None:
    """Let the time of a lock be over, as if its process had slept."""
    past = DatabaseNow() - timedelta(seconds=1)
    assert Lock.objects.filter(key=key).update(expires_at=past) == 1


# One at a time


def test_a_lock_is_held_in_the_block_and_free_after_it():
    with taskcontrol.lock("stock"):
        assert not is_free("stock")
        assert is_free("other")

    assert is_free("stock")
    assert not Lock.objects.exists()


def test_it_is_free_after_an_exception_too():
    with pytest.raises(ValueError, match="no"), taskcontrol.lock("stock"):
        raise ValueError("no")

    assert is_free("stock")


def test_of_many_who_want_it_at_one_moment_exactly_one_gets_it():
    for _ in range(10):
        both = threading.Barrier(4)

        def take(everybody=both):
            try:
                with taskcontrol.lock("stock"):
                    everybody.wait(30)
            except LockTaken:
                everybody.wait(30)
                return "taken"
            return "held"

        assert sorted(race(take, take, take, take)) == ["held", "taken", "taken", "taken"]


def test_of_many_who_want_an_expired_one_exactly_one_gets_it():
    for _ in range(10):
        Lock.objects.create(key="stock", expires_at=DatabaseNow(), holder="a dead process")
        both = threading.Barrier(3)

        def take(everybody=both):
            try:
                with taskcontrol.lock("stock"):
                    everybody.wait(30)
            except LockTaken:
                everybody.wait(30)
                return "taken"
            return "held"

        assert sorted(race(take, take, take)) == ["held", "taken", "taken"]


def test_who_waits_gets_it_when_it_is_free():
    inside = []

    def add():
        with taskcontrol.lock("stock", wait=30):
            inside.append(1)
            most = len(inside)
            threading.Event().wait(0.02)
            inside.pop()
        return most

    assert race(add, add, add, add) == [1, 1, 1, 1]


def test_who_waits_in_vain_is_told_after_that_time():
    with taskcontrol.lock("stock"), pytest.raises(LockTaken):  # noqa: SIM117
        with taskcontrol.lock("stock", wait=0.1):
            raise AssertionError("it is taken")


def test_keys_are_compared_as_written():
    with taskcontrol.lock("stock"):
        assert is_free("Stock")
        assert is_free("stock ")
        assert is_free("ﬆock")


def test_the_error_says_who_has_it_since_when():
    with taskcontrol.lock("stock"):
        row = Lock.objects.get()
        with pytest.raises(LockTaken) as refused, taskcontrol.lock("stock"):
            raise AssertionError("it is taken")

    assert str(refused.value) == (
        f"The lock 'stock' is held by {row.holder}, since {row.taken_at:%Y-%m-%d %H:%M:%S} "
        "UTC. Try again later (wait=, max_retries=), or catch LockTaken to leave the work to "
        "that one."
    )
    assert row.holder.startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("key", ["", "x" * 256, 7, None, "nul\0"])
def test_a_key_that_no_database_can_hold_is_refused(key):
    with pytest.raises(InvalidCall, match="key of a lock must be a text of 1 to 255"):
        taskcontrol.lock(key)


@pytest.mark.parametrize("ttl", [0, -1, 0.5, "long", None])
def test_an_impossible_ttl_is_refused(ttl):
    with pytest.raises(InvalidCall, match="ttl must be from 1 second"):
        taskcontrol.lock("stock", ttl)


def test_an_impossible_wait_is_refused():
    with pytest.raises(InvalidCall, match="wait must be seconds"):
        taskcontrol.lock("stock", wait=-1)


# As a decorator


def test_a_decorated_function_holds_the_lock_of_its_arguments():
    @taskcontrol.lock("stock-{item}", ttl=60)
    def count(item, *, warehouse="all"):
        """Count."""
        return [is_free(f"stock-{item}"), is_free("stock-8"), warehouse]

    assert count(7) == [False, True, "all"]
    assert count(item=7, warehouse="north") == [False, True, "north"]
    assert is_free("stock-7")
    assert count.__doc__ == "Count."


def test_a_decorated_function_may_call_itself_with_other_arguments():
    @taskcontrol.lock("stock-{item}")
    def count(item):
        return 1 + count(item - 1) if item else 0

    assert count(3) == 3


def test_a_key_that_names_what_the_function_does_not_take_is_refused():
    with pytest.raises(
        InvalidCall, match=r"names 'thing', which .+count does not take; it"
    ):

        @taskcontrol.lock("stock-{thing}")
        def count(item): ...


# Kept and lost


def test_it_is_extended_while_it_is_held_however_long():
    with taskcontrol.lock("stock", ttl=1) as held:
        first = Lock.objects.get().expires_at
        eventually(lambda: Lock.objects.get().expires_at > first + timedelta(seconds=1.5))
        assert not is_free("stock")
        held.check()
        assert not held.lost


def test_who_overslept_does_not_release_what_the_successor_holds():
    holder = taskcontrol.lock("stock")
    held = holder.__enter__()
    expire("stock")
    with taskcontrol.lock("stock") as successor:
        with pytest.raises(LockLost, match="'stock' was lost"):
            held.check()
        assert held.lost
        with pytest.raises(LockLost):
            holder.__exit__(None, None, None)

        successor.check()
        assert not is_free("stock")
    assert is_free("stock")


def test_a_lock_whose_time_is_over_is_not_held_though_nobody_has_taken_it():
    held = taskcontrol.lock("stock").__enter__()
    expire("stock")

    with pytest.raises(LockLost):
        held.check()
    held.release()


def test_the_error_of_the_block_beats_that_of_the_lost_lock():
    def work():
        with taskcontrol.lock("stock"):
            Lock.objects.all().delete()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        work()


def test_a_lost_lock_is_not_extended():
    holder = taskcontrol.lock("stock", ttl=1)
    held = holder.__enter__()
    Lock.objects.all().delete()
    eventually(lambda: held.lost)

    with pytest.raises(LockLost):
        holder.__exit__(None, None, None)
    assert not Lock.objects.exists()


def test_a_holder_whose_row_is_gone_knows_it_long_before_its_time_is_over():
    holder = taskcontrol.lock("stock", ttl=3600)
    held = holder.__enter__()
    Lock.objects.all().delete()

    held._possession._extend()

    assert held.lost
    with pytest.raises(LockLost):
        holder.__exit__(None, None, None)


def test_a_holder_that_cannot_reach_the_database_knows_that_it_is_unsure(monkeypatch):
    with taskcontrol.lock("stock", ttl=1) as held:
        monkeypatch.setattr(
            possession, "side_database", lambda: "nowhere"
        )  # as if it were away
        eventually(lambda: held.lost, timeout=5)


def test_the_lock_of_a_killed_process_is_free_after_its_ttl():
    with holding(ttl=2) as holder:
        assert not is_free("stock")
        holder.kill()
        holder.wait(10)
        assert not is_free("stock")
        eventually(lambda: is_free("stock"), timeout=10, every=0.2)


def test_a_process_that_slept_over_its_ttl_finds_that_it_lost_the_lock():
    with holding(ttl=1) as holder:
        holder.send_signal(signal.SIGSTOP)
        eventually(lambda: is_free("stock"), timeout=10, every=0.2)
        with taskcontrol.lock("stock") as successor:
            holder.send_signal(signal.SIGCONT)
            out, _ = holder.communicate("go\n", timeout=30)
            successor.check()
        assert out == "LockLost\n"


@contextmanager
def holding(ttl: int) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the lock until it is told to let go, and says how it ended."""
    code = f"""
import django; django.setup()
import taskcontrol
try:
    with taskcontrol.lock("stock", ttl={ttl}):
        print("held", flush=True)
        input()
except taskcontrol.LockLost as lost:
    print("LockLost")
"""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, env=site_environment(), stdin=pipe, stdout=pipe, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


# Fenced


def test_what_is_written_behind_the_fence_is_committed_while_the_lock_is_held():
    with taskcontrol.lock("stock") as held:
        with held.fenced():
            make_task(event="counted")
        held.check()

    assert TaskLog.objects.filter(event="counted").exists()


def test_behind_the_fence_nothing_begins_once_the_lock_is_lost():
    held = taskcontrol.lock("stock").__enter__()
    expire("stock")

    with pytest.raises(LockLost), held.fenced():
        raise AssertionError("not reached")
    held.release()


@pytest.mark.only_on("postgresql", "mysql")
def test_nobody_takes_an_expired_lock_before_the_fenced_block_has_committed():
    with suppress(LockLost), taskcontrol.lock("stock", ttl=1) as held, held.fenced():
        over = Lock.objects.filter(expires_at__lte=DatabaseNow())
        eventually(over.exists)
        with pytest.raises(TimeoutError):
            beside(lambda: is_free("stock"), timeout=1)


# In transactions


@pytest.mark.only_on("postgresql", "mysql")
def test_in_a_transaction_it_is_released_after_the_commit():
    with transaction.atomic():
        with taskcontrol.lock("stock"):
            make_task()
        assert not beside(lambda: is_free("stock"))

    assert is_free("stock")


@pytest.mark.only_on("postgresql", "mysql")
def test_a_rollback_releases_it_too():
    with transaction.atomic():
        with taskcontrol.lock("stock"):
            make_task()
        assert not beside(lambda: is_free("stock"))
        transaction.set_rollback(True)

    assert is_free("stock")


def test_it_is_free_for_everybody_when_its_transaction_has_failed():
    with pytest.raises(ValueError, match="no"), transaction.atomic():  # noqa: SIM117
        with taskcontrol.lock("stock"):
            raise ValueError("no")

    assert beside(lambda: is_free("stock"))


def test_it_is_free_when_the_savepoint_has_failed_in_which_it_was_taken():
    with transaction.atomic():
        with pytest.raises(ValueError, match="no"), transaction.atomic():  # noqa: SIM117
            with taskcontrol.lock("stock"):
                raise ValueError("no")
        assert is_free("stock")

    assert is_free("stock")


@pytest.mark.only_on("postgresql", "mysql")
def test_others_wait_for_the_commit_though_the_block_has_failed():
    with transaction.atomic():
        with suppress(ValueError), taskcontrol.lock("stock"):
            make_task(event="counted")
            raise ValueError("no")
        assert not beside(lambda: is_free("stock"))

    assert is_free("stock")


def test_its_transaction_may_take_it_again_and_again():
    with transaction.atomic():
        for _ in range(3):
            with taskcontrol.lock("stock") as held:
                held.check()
                assert not is_free("stock")

    assert not Lock.objects.exists()


@pytest.mark.only_on("postgresql", "mysql")
def test_what_was_taken_again_in_a_lost_savepoint_stays_with_the_transaction():
    with transaction.atomic():
        with taskcontrol.lock("stock"):
            make_task()
        with pytest.raises(ValueError, match="no"), transaction.atomic():  # noqa: SIM117
            with taskcontrol.lock("stock"):
                raise ValueError("no")
        assert not beside(lambda: is_free("stock"))

    assert is_free("stock")


@pytest.mark.only_on("postgresql", "mysql")
def test_it_is_extended_until_its_transaction_has_ended():
    with transaction.atomic():
        with taskcontrol.lock("stock", ttl=1):
            first = Lock.objects.get().expires_at
        eventually(
            lambda: (
                beside(lambda: Lock.objects.get().expires_at)
                > first + timedelta(seconds=1.5)
            )
        )

    assert is_free("stock")


@pytest.mark.only_on("postgresql", "mysql")
def test_it_is_free_when_the_connection_of_its_transaction_is_gone():
    with suppress(InterfaceError, OperationalError), transaction.atomic():
        with taskcontrol.lock("stock"):
            make_task()
        connection.close()

    assert is_free("stock")


@pytest.mark.only_on("sqlite")
def test_on_sqlite_a_transaction_has_the_lock_within_itself():
    with transaction.atomic():
        with taskcontrol.lock("stock"):
            assert not is_free("stock")
        assert is_free("stock")


# In tasks


def test_a_task_that_is_refused_keeps_that_among_its_events():
    other, task = make_task("Started"), make_task("Started", attempt=2)
    with running(CurrentTask(other)), taskcontrol.lock("stock"):
        assert Lock.objects.get().task_id == other.pk
        with running(CurrentTask(task)), pytest.raises(LockTaken) as refused:
            taskcontrol.lock("stock").__enter__()

    event = TaskEvent.objects.get(task=task)
    assert (event.kind, event.attempt, event.detail) == ("refused", 2, str(refused.value))
    assert f"is held by task {other.pk}, process {os.getpid()} on" in event.detail
    assert refused.value.task_id == other.pk


def test_the_next_attempt_of_a_task_takes_over_what_a_dead_one_held():
    task = make_task("Started")
    with running(CurrentTask(task)):
        dead = taskcontrol.lock("stock").__enter__()
    task.attempt = 2

    with running(CurrentTask(task)), taskcontrol.lock("stock") as held:
        held.check()
        with pytest.raises(LockLost):
            dead.check()
        assert dead.release() is False


def test_another_task_takes_nothing_over():
    with running(CurrentTask(make_task("Started"))), taskcontrol.lock("stock") as held:
        later = make_task("Started", attempt=2)
        with running(CurrentTask(later)):
            assert not is_free("stock")
        held.check()


def test_the_same_attempt_does_not_get_it_twice():
    task = make_task("Started")
    with running(CurrentTask(task)), taskcontrol.lock("stock"):
        assert not is_free("stock")


def test_what_a_body_forgot_to_release_is_free_after_it():
    task = CurrentTask(make_task("Started"))
    with running(task):
        taskcontrol.lock("stock").__enter__()
        assert not is_free("stock")

    task.close()
    assert is_free("stock")


def test_a_body_that_is_run_again_in_place_gets_its_locks_again(monkeypatch):
    monkeypatch.setattr(conflicts, "PAUSES", (0,))
    runs = []

    def body():
        runs.append(1)
        with taskcontrol.lock("stock"):
            if len(runs) == 1:
                raise taskcontrol.Retry

    task = make_task("Started", options={"atomic": True})
    with running(CurrentTask(task)):
        run_through_conflicts(task, lambda: in_a_transaction(body))

    assert len(runs) == 2
    assert is_free("stock")


def in_a_transaction(work):
    with transaction.atomic():
        work()


def test_after_an_item_that_failed_the_next_one_gets_its_lock():
    taken = []
    loop = taskcontrol.iter_chunks(["a", "b", "c"])
    for chunk in loop:
        for item in chunk:
            with chunk.item(item), taskcontrol.lock("stock"):
                taken.append(item)
                raise ValueError(item)

    assert taken == ["a", "b", "c"]
    assert is_free("stock")


def test_its_thread_ends_with_it():
    with taskcontrol.lock("alone", ttl=1):
        (thread,) = [t for t in threading.enumerate() if t.name == "taskcontrol-lock-alone"]
        first = Lock.objects.get().expires_at
        eventually(lambda: Lock.objects.get().expires_at > first)

    thread.join(5)
    assert not thread.is_alive()
