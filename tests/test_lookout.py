"""What a worker does to its bodies: stopped, missed, lost, and whose places are free."""

from __future__ import annotations

import signal
from functools import partial
from types import SimpleNamespace

import pytest
from django.db import (
    OperationalError,
    transaction,
)

from taskcontrol import held, lifecycle, lookout as room
from taskcontrol.history import record as note
from taskcontrol.lookout import UNHELD_FOR, Lookout, while_free
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.children import a_child, answers, gives
from tests.factories import make_task, make_type, make_worker
from tests.mainprocess import a_boot, a_row, mine, nothing_held, now, told
from tests.waiting import beside

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

Kind = TaskEvent.Kind


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch):
    nothing_held(monkeypatch)


@pytest.fixture
def row():
    return a_row()


@pytest.fixture
def boot(row):
    return a_boot(row)


@pytest.fixture
def keeper(boot):
    return boot.keeper


@pytest.fixture
def lookout(boot):
    return boot.lookout


@pytest.fixture
def child():
    with a_child() as process:
        yield process


def looks_again(lookout, after=0.0):
    """Let so many seconds go by in which the event loop has turned, and look."""
    for times in (lookout._unheld_since, lookout._asked_at):
        for key in times:
            times[key] -= after
    lookout.loop_is_alive()
    lookout.watch()


# On pools of each kind


@pytest.fixture
def look(monkeypatch):
    """Let somebody look: its worker's pool has children or not."""
    monkeypatch.setattr(room, "UNHELD_FOR", 0)

    def look(*, prefork):
        lookout = Lookout(SimpleNamespace(facts={"hostname": "w"}, prefork=prefork))
        for _ in range(2):
            lookout.loop_seen_at = float("inf")
            lookout.watch()

    return look


@pytest.mark.parametrize("prefork", [True, False], ids=["prefork", "threads"])
def test_a_started_row_that_nothing_here_runs_runs_again_p1(row, look, prefork):
    make_type()
    task = make_task(Status.STARTED, worker=row)

    look(prefork=prefork)

    now = TaskLog.objects.get(pk=task.pk)
    assert (now.status, now.lost_count, now.occupies) == (Status.PENDING, 1, False)
    who = "child" if prefork else "thread"
    assert f"no {who} runs it" in TaskEvent.objects.get(task=task).detail


@pytest.mark.parametrize("prefork", [True, False], ids=["prefork", "threads"])
@pytest.mark.parametrize("status", [Status.CANCELED, Status.PENDING])
def test_a_place_that_nothing_here_holds_is_freed_p4(row, look, prefork, status):
    task = make_task(status, worker=row, attempt=1, occupies=True)

    look(prefork=prefork)

    assert TaskLog.objects.filter(pk=task.pk, occupies=False).exists()


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
def test_what_a_thread_here_runs_is_let_alone(row, look, status):
    task = make_task(status, worker=row, occupies=True)
    held.begin_here(task.pk, task.attempt)

    look(prefork=False)

    now = TaskLog.objects.get(pk=task.pk)
    assert (now.status, now.occupies) == (status, True)
    assert not TaskEvent.objects.exists()


def test_a_thread_is_at_one_attempt_at_a_time(row):
    held.begin_here(1, 1)
    held.begin_here(2, 1)
    assert held.attempts() == [(2, 1)]

    held.end_here()
    held.end_here()

    assert not held.has_body(2, 1)


# Bodies that are not wanted any more


def test_a_body_is_told_to_stop_once_and_has_its_grace_p6(lookout, row, child):
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)

    for _ in range(3):
        looks_again(lookout)

    assert (told(task), child.poll()) == ([Kind.TOLD], None)
    assert now(task).occupies


def test_a_body_that_does_not_stop_is_killed_after_its_grace_p6(lookout, row, child, conf):
    conf(CANCEL_GRACE=5)
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)
    lookout.watch()

    looks_again(lookout, after=6)

    assert child.wait(10) == -signal.SIGKILL
    assert told(task) == [Kind.TOLD, Kind.FORCED]


def test_a_person_ends_the_grace_but_not_before_the_body_was_told_p6(lookout, row, child):
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)
    note([task], Kind.FORCING)
    lookout.watch()
    assert (told(task), child.poll()) == ([Kind.FORCING, Kind.TOLD], None)

    lookout.watch()

    assert child.wait(10) == -signal.SIGKILL


def test_a_body_behind_its_fenced_block_is_let_alone(lookout, row, child):
    task = mine(row, Status.FINISHED)
    gives(child, task.pk)

    for _ in range(2):
        looks_again(lookout, after=3600)

    assert (told(task), child.poll(), now(task).occupies) == ([], None, True)


def test_the_place_of_a_body_that_is_gone_is_free_at_once_p4(lookout, row, child):
    task = mine(row, Status.CANCELED)
    answers(gives(child, task.pk))

    lookout.watch()

    assert not now(task).occupies


def test_a_place_is_not_free_before_the_loop_has_told_who_has_the_body_p4(lookout, row):
    task = mine(row, Status.CANCELED)
    lookout.watch()
    looks_again(lookout)
    assert now(task).occupies

    looks_again(lookout, after=UNHELD_FOR)

    assert not now(task).occupies


def test_only_what_holds_a_place_here_is_looked_at(lookout, row):
    other = make_worker()
    tasks = [
        mine(other, Status.CANCELED),
        mine(other, Status.STARTED),
        make_task(Status.QUEUED),
        make_task(Status.CANCELED, worker=row),
    ]

    for _ in range(2):
        looks_again(lookout, after=60)

    assert lookout._unheld_since == {}
    assert [now(task).rev for task in tasks] == [0] * 4
    assert not TaskEvent.objects.exists()


# Bodies that run


def test_a_started_task_is_not_lost_while_a_child_runs_it(lookout, row, child):
    task = mine(row, Status.STARTED)
    gives(child, task.pk)

    for _ in range(2):
        looks_again(lookout, after=60)

    assert now(task).status == Status.STARTED


def test_a_started_task_that_no_child_runs_is_lost_after_a_while_p1(lookout, row):
    """The child claims before this process has heard that it began."""
    task = mine(row, Status.STARTED)
    for _ in range(2):
        looks_again(lookout)
    looks_again(lookout, after=UNHELD_FOR - 1)
    assert now(task).status == Status.STARTED

    looks_again(lookout, after=2)

    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 1)
    assert told(task) == [Kind.RESCUED]


def test_a_started_task_is_not_lost_while_the_loop_stands_still(lookout, row):
    """Which child took it is told by the event loop, once it turns."""
    task = mine(row, Status.STARTED)
    lookout.watch()
    for key in lookout._unheld_since:
        lookout._unheld_since[key] -= 59
    lookout.loop_seen_at -= 60

    lookout.watch()

    assert now(task).status == Status.STARTED


def test_on_threads_nobody_waits_for_the_loop_to_miss_a_body_p1(boot, lookout, row):
    """A thread says itself what it runs, before it claims."""
    boot.prefork = False
    task = mine(row, Status.STARTED)
    lookout.loop_seen_at -= 3600
    lookout.watch()
    for key in lookout._unheld_since:
        lookout._unheld_since[key] -= 60

    lookout.watch()

    assert now(task).status == Status.PENDING


def test_a_child_that_is_found_again_begins_anew_to_be_missed(lookout, row, child):
    task = mine(row, Status.STARTED)
    looks_again(lookout)
    job = gives(child, task.pk)
    looks_again(lookout, after=60)
    answers(job)

    looks_again(lookout)

    assert now(task).status == Status.STARTED


def test_a_body_over_its_limit_fails_though_the_loop_stands_still(
    lookout, row, child, conf
):
    conf(CANCEL_GRACE=5)
    task = mine(row, Status.STARTED, timeout=10)
    gives(child, task.pk)
    body = held.find(task.pk, 1)
    body.since -= 14
    lookout.watch()
    assert now(task).status == Status.STARTED

    body.since -= 4
    lookout.watch()

    assert now(task).status == Status.FAILED


def test_what_timed_out_holds_its_place_until_its_process_is_gone_p4(lookout, row):
    task = mine(row, Status.STARTED, timeout=10)

    lookout.timed_out(task.pk, 1)

    assert (now(task).status, now(task).occupies) == (Status.FAILED, True)


@pytest.mark.parametrize(("status", "attempt"), [("Canceled", 1), ("Started", 2)])
def test_a_limit_that_comes_too_late_changes_nothing_p3(lookout, row, status, attempt):
    task = mine(row, status, attempt=attempt)

    lookout.timed_out(task.pk, 1)

    assert (now(task).status, now(task).rev) == (status, 0)


# Children that died


def test_the_task_of_a_child_that_died_runs_again_and_is_counted_p1(lookout, row, child):
    task = mine(row, Status.STARTED)
    gives(child, task.pk)
    child.kill()
    child.wait()

    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 1)
    lookout.watch()
    assert held.find(task.pk, 1) is None


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
def test_the_death_of_the_child_of_a_copy_costs_the_body_nothing_p3_p4(
    lookout, row, child, status
):
    task = mine(row, status)
    gives(child, task.pk)

    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).occupies) == (status, True)


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
@pytest.mark.parametrize("word", ["process_lost", "timed_out"])
def test_no_worker_gives_up_what_runs_in_another_p3_p4(lookout, row, status, word):
    """The child that ended here had a copy of the message, and never claimed."""
    task = mine(make_worker(), status)

    getattr(lookout, word)(task.pk, 1, *["it died"][: word == "process_lost"])

    assert (now(task).status, now(task).occupies) == (status, True)


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
def test_the_answer_to_a_copy_is_not_that_of_the_body_p3_p4(lookout, row, child, status):
    task = mine(row, status)
    gives(child, task.pk)
    with a_child() as other:
        answers(gives(other, task.pk))

        for _ in range(3):
            looks_again(lookout, after=0.0 if status == Status.CANCELED else 60)

        assert (now(task).status, now(task).occupies) == (status, True)
        assert held.attempts() == [(task.pk, 1)]


def test_a_child_that_died_after_its_task_was_stopped_frees_its_place_p4(lookout, row):
    task = mine(row, Status.CANCELED)

    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).occupies) == (Status.CANCELED, False)


def test_the_death_of_an_older_attempt_changes_nothing_p3(lookout, row, child):
    task = mine(row, Status.STARTED, attempt=2)
    gives(child, task.pk, 2)

    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).rev) == (Status.STARTED, 0)
    assert held.find(task.pk, 2) is not None


@pytest.mark.parametrize("why", ["signal 9 (SIGKILL)", "signal 11 (SIGSEGV)"])
def test_only_who_was_killed_may_have_died_for_memory(lookout, row, why, monkeypatch):
    monkeypatch.setattr(lookout.kills, "explain_one", lambda: True)
    task = mine(row, Status.STARTED)

    lookout.process_lost(task.pk, 1, why)

    detail = TaskEvent.objects.get(task=task.pk).detail
    assert ("out of memory" in detail) == ("SIGKILL" in why)


# Bodies that nobody waits for


def test_a_body_that_was_given_up_is_ended_once_an_account_has_said_so_p3(lookout, child):
    gives(child, 7)
    for _ in range(2):
        looks_again(lookout)
    assert child.poll() is None

    note([TaskLog(pk=7, attempt=1)], Kind.FORCING)
    looks_again(lookout)

    assert child.wait(10) == -signal.SIGKILL
    assert Kind.FORCED in TaskEvent.objects.filter(task=7).values_list("kind", flat=True)


def test_a_body_is_given_up_only_when_it_was_so_at_two_looks_p3(lookout, child):
    """One that claims at this moment, or is busy after its end, is here for a good reason."""
    gives(child, 7)
    stray = TaskLog(pk=7, attempt=1)
    note([stray], Kind.FORCING)

    looks_again(lookout)
    assert (told(stray), child.poll()) == ([Kind.FORCING], None)
    looks_again(lookout)

    assert child.wait(10) == -signal.SIGKILL


def test_what_the_keeper_remembers_goes_with_its_task(lookout, row, child):
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)
    lookout.watch()
    assert lookout._asked_at

    lifecycle.release(task.pk, 1)
    lookout.watch()

    assert (lookout._asked_at, lookout._unheld_since) == ({}, {})


# Limits that come at a bad time


@pytest.mark.parametrize("where", ["Lookout._own", "while_free"])
def test_a_hard_limit_that_falls_into_an_outage_is_not_taken_for_a_loss(
    keeper, lookout, row, monkeypatch, where
):
    make_type()
    task = mine(row, Status.STARTED, timeout=10)

    def is_away(*_given):
        raise OperationalError("server closed the connection unexpectedly")

    keeper.do(partial(lookout.timed_out, task.pk, 1))
    with monkeypatch.context() as patched:
        patched.setattr(f"taskcontrol.lookout.{where}", is_away)
        keeper._run_errands()
    # By now the pool has killed the child.
    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    after = now(task)
    assert (after.status, after.ended_reason, after.lost_count) == (
        "Failed",
        "timed out",
        0,
    )
    keeper._run_errands()
    assert (keeper._errands, lookout._overdue) == ([], set())


def test_a_limit_that_comes_after_the_end_does_not_keep_a_place_p4(lookout, row):
    task = mine(row, Status.CANCELED)
    lookout.timed_out(task.pk, 1)

    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert not now(task).occupies


# What somebody else's open transaction holds

holds = pytest.mark.only_on("postgresql", "mysql")


def lock(row):
    """Hold a row until the end of this transaction."""
    assert type(row).objects.select_for_update().get(pk=row.pk)


@holds
@pytest.mark.parametrize("status", [Status.CANCELED, Status.STARTED])
def test_a_held_row_keeps_the_keeper_from_no_other_p4(lookout, row, status, monkeypatch):
    monkeypatch.setattr(room, "UNHELD_FOR", 0)
    make_type()
    first, second = mine(row, status), mine(row, status)
    looks_again(lookout)
    TaskLog.objects.filter(pk__in=[first.pk, second.pk]).update(
        status=status, occupies=True, worker=row
    )

    with transaction.atomic():
        lock(first)
        beside(lambda: looks_again(lookout))
        assert (now(first).occupies, now(second).occupies) == (True, False)

    looks_again(lookout)
    assert not now(first).occupies


@holds
def test_a_hard_limit_that_cannot_be_written_is_not_taken_for_a_loss(keeper, lookout, row):
    make_type()
    task = mine(row, Status.STARTED)
    keeper.do(partial(lookout.timed_out, task.pk, 1))

    with transaction.atomic():
        lock(task)
        beside(keeper._run_errands)
    lookout.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).ended_reason) == (Status.FAILED, "timed out")
    keeper._run_errands()
    assert not keeper._errands


def test_an_errand_for_a_row_that_is_gone_is_over(row):
    task = mine(row, Status.STARTED)
    TaskLog.objects.filter(pk=task.pk).delete()

    assert while_free(task.pk, lambda: None)
