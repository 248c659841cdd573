"""What a worker's main process does to its bodies and its row, looked at piece by piece."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest
from celery import Celery
from django.db import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    transaction,
)
from kombu.entity import Queue

from taskcontrol import held, interrupts, lifecycle, worker
from taskcontrol.execution import here
from taskcontrol.history import record as note
from taskcontrol.lockwaits import impatient
from taskcontrol.models import Incident, TaskEvent, TaskLog, Worker
from taskcontrol.status import Status
from taskcontrol.timers import Every
from taskcontrol.worker import UNHELD_FOR, Boot
from tests.children import a_child, answers, gives
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.waiting import beside

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

Kind = TaskEvent.Kind


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch):
    monkeypatch.setattr(held, "_held", set())
    monkeypatch.setattr(held, "_here", {})
    monkeypatch.setattr(here, "_shared", bytearray(8))
    monkeypatch.setattr(interrupts, "_leaving", bytearray(1))


@pytest.fixture
def row():
    """The row of a worker whose main process this is."""
    row = make_worker()
    here.worker_id = row.pk
    return row


@pytest.fixture
def boot(row):
    """A worker whose pool forks; its event loop turns at once."""
    pool = SimpleNamespace(num_processes=2, info={"processes": []})
    app = SimpleNamespace(
        amqp=SimpleNamespace(queues=SimpleNamespace(consume_from={"default": None})),
        conf=SimpleNamespace(worker_disable_prefetch=True),
    )
    transport = SimpleNamespace(driver_type="redis")
    consumer = SimpleNamespace(
        app=app,
        pool=pool,
        hostname="w",
        connection=SimpleNamespace(transport=transport),
    )
    boot = Boot(consumer)
    boot.prefork, boot.row = True, row
    return boot


@pytest.fixture
def keeper(boot):
    return boot.keeper


@pytest.fixture
def child():
    with a_child() as process:
        yield process


def mine(row, status, **columns):
    columns = {"occupies": True, "worker": row, **columns}
    return make_task(status, **columns)


def now(task):
    return TaskLog.objects.get(pk=task.pk)


def told(task):
    events = TaskEvent.objects.filter(task=task.pk).order_by("pk")
    return list(events.values_list("kind", flat=True))


def looks_again(keeper, after=0.0):
    """Let so many seconds go by in which the event loop has turned, and look."""
    for times in (keeper._unheld_since, keeper._asked_at):
        for key in times:
            times[key] -= after
    keeper._loop_is_alive()
    keeper._watch()


# On pools of each kind


@pytest.fixture
def look(monkeypatch):
    """Let a keeper look: its worker's pool has children or not."""
    monkeypatch.setattr(worker, "UNHELD_FOR", 0)

    def look(*, prefork):
        keeper = worker.Keeper(SimpleNamespace(facts={"hostname": "w"}, prefork=prefork))
        for _ in range(2):
            keeper._loop_seen_at = float("inf")
            keeper._watch()

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


def test_a_body_is_told_to_stop_once_and_has_its_grace_p6(keeper, row, child):
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)

    for _ in range(3):
        looks_again(keeper)

    assert (told(task), child.poll()) == ([Kind.TOLD], None)
    assert now(task).occupies


def test_a_body_that_does_not_stop_is_killed_after_its_grace_p6(keeper, row, child, conf):
    conf(CANCEL_GRACE=5)
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)
    keeper._watch()

    looks_again(keeper, after=6)

    assert child.wait(10) == -signal.SIGKILL
    assert told(task) == [Kind.TOLD, Kind.FORCED]


def test_a_person_ends_the_grace_but_not_before_the_body_was_told_p6(keeper, row, child):
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)
    note([task], Kind.FORCING)
    keeper._watch()
    assert (told(task), child.poll()) == ([Kind.FORCING, Kind.TOLD], None)

    keeper._watch()

    assert child.wait(10) == -signal.SIGKILL


def test_a_body_behind_its_fenced_block_is_let_alone(keeper, row, child):
    task = mine(row, Status.FINISHED)
    gives(child, task.pk)

    for _ in range(2):
        looks_again(keeper, after=3600)

    assert (told(task), child.poll(), now(task).occupies) == ([], None, True)


def test_the_place_of_a_body_that_is_gone_is_free_at_once_p4(keeper, row, child):
    task = mine(row, Status.CANCELED)
    answers(gives(child, task.pk))

    keeper._watch()

    assert not now(task).occupies


def test_a_place_is_not_free_before_the_loop_has_told_who_has_the_body_p4(keeper, row):
    task = mine(row, Status.CANCELED)
    keeper._watch()
    looks_again(keeper)
    assert now(task).occupies

    looks_again(keeper, after=UNHELD_FOR)

    assert not now(task).occupies


def test_only_what_holds_a_place_here_is_looked_at(keeper, row):
    other = make_worker()
    tasks = [
        mine(other, Status.CANCELED),
        mine(other, Status.STARTED),
        make_task(Status.QUEUED),
        make_task(Status.CANCELED, worker=row),
    ]

    for _ in range(2):
        looks_again(keeper, after=60)

    assert keeper._unheld_since == {}
    assert [now(task).rev for task in tasks] == [0] * 4
    assert not TaskEvent.objects.exists()


# Bodies that run


def test_a_started_task_is_not_lost_while_a_child_runs_it(keeper, row, child):
    task = mine(row, Status.STARTED)
    gives(child, task.pk)

    for _ in range(2):
        looks_again(keeper, after=60)

    assert now(task).status == Status.STARTED


def test_a_started_task_that_no_child_runs_is_lost_after_a_while_p1(keeper, row):
    """The child claims before this process has heard that it began."""
    task = mine(row, Status.STARTED)
    for _ in range(2):
        looks_again(keeper)
    looks_again(keeper, after=UNHELD_FOR - 1)
    assert now(task).status == Status.STARTED

    looks_again(keeper, after=2)

    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 1)
    assert told(task) == [Kind.RESCUED]


def test_a_started_task_is_not_lost_while_the_loop_stands_still(keeper, row):
    """Which child took it is told by the event loop, once it turns."""
    task = mine(row, Status.STARTED)
    keeper._watch()
    for key in keeper._unheld_since:
        keeper._unheld_since[key] -= 59
    keeper._loop_seen_at -= 60

    keeper._watch()

    assert now(task).status == Status.STARTED


def test_on_threads_nobody_waits_for_the_loop_to_miss_a_body_p1(boot, keeper, row):
    """A thread says itself what it runs, before it claims."""
    boot.prefork = False
    task = mine(row, Status.STARTED)
    keeper._loop_seen_at -= 3600
    keeper._watch()
    for key in keeper._unheld_since:
        keeper._unheld_since[key] -= 60

    keeper._watch()

    assert now(task).status == Status.PENDING


def test_a_child_that_is_found_again_begins_anew_to_be_missed(keeper, row, child):
    task = mine(row, Status.STARTED)
    looks_again(keeper)
    job = gives(child, task.pk)
    looks_again(keeper, after=60)
    answers(job)

    looks_again(keeper)

    assert now(task).status == Status.STARTED


def test_a_body_over_its_limit_fails_though_the_loop_stands_still(keeper, row, child, conf):
    conf(CANCEL_GRACE=5)
    task = mine(row, Status.STARTED, timeout=10)
    gives(child, task.pk)
    body = held.find(task.pk, 1)
    body.since -= 14
    keeper._watch()
    assert now(task).status == Status.STARTED

    body.since -= 4
    keeper._watch()

    assert now(task).status == Status.FAILED


def test_what_timed_out_holds_its_place_until_its_process_is_gone_p4(keeper, row):
    task = mine(row, Status.STARTED, timeout=10)

    keeper.timed_out(task.pk, 1)

    assert (now(task).status, now(task).occupies) == (Status.FAILED, True)


@pytest.mark.parametrize(("status", "attempt"), [("Canceled", 1), ("Started", 2)])
def test_a_limit_that_comes_too_late_changes_nothing_p3(keeper, row, status, attempt):
    task = mine(row, status, attempt=attempt)

    keeper.timed_out(task.pk, 1)

    assert (now(task).status, now(task).rev) == (status, 0)


# Children that died


def test_the_task_of_a_child_that_died_runs_again_and_is_counted_p1(keeper, row, child):
    task = mine(row, Status.STARTED)
    gives(child, task.pk)
    child.kill()
    child.wait()

    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 1)
    keeper._watch()
    assert held.find(task.pk, 1) is None


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
def test_the_death_of_the_child_of_a_copy_costs_the_body_nothing_p3_p4(
    keeper, row, child, status
):
    task = mine(row, status)
    gives(child, task.pk)

    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).occupies) == (status, True)


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
@pytest.mark.parametrize("word", ["process_lost", "timed_out"])
def test_no_worker_gives_up_what_runs_in_another_p3_p4(keeper, row, status, word):
    """The child that ended here had a copy of the message, and never claimed."""
    task = mine(make_worker(), status)

    getattr(keeper, word)(task.pk, 1, *["it died"][: word == "process_lost"])

    assert (now(task).status, now(task).occupies) == (status, True)


@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
def test_the_answer_to_a_copy_is_not_that_of_the_body_p3_p4(keeper, row, child, status):
    task = mine(row, status)
    gives(child, task.pk)
    with a_child() as other:
        answers(gives(other, task.pk))

        for _ in range(3):
            looks_again(keeper, after=0.0 if status == Status.CANCELED else 60)

        assert (now(task).status, now(task).occupies) == (status, True)
        assert held.attempts() == [(task.pk, 1)]


def test_a_child_that_died_after_its_task_was_stopped_frees_its_place_p4(keeper, row):
    task = mine(row, Status.CANCELED)

    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).occupies) == (Status.CANCELED, False)


def test_the_death_of_an_older_attempt_changes_nothing_p3(keeper, row, child):
    task = mine(row, Status.STARTED, attempt=2)
    gives(child, task.pk, 2)

    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).rev) == (Status.STARTED, 0)
    assert held.find(task.pk, 2) is not None


@pytest.mark.parametrize("why", ["signal 9 (SIGKILL)", "signal 11 (SIGSEGV)"])
def test_only_who_was_killed_may_have_died_for_memory(keeper, row, why, monkeypatch):
    monkeypatch.setattr(keeper._kills, "explain_one", lambda: True)
    task = mine(row, Status.STARTED)

    keeper.process_lost(task.pk, 1, why)

    detail = TaskEvent.objects.get(task=task.pk).detail
    assert ("out of memory" in detail) == ("SIGKILL" in why)


# Bodies that nobody waits for


def test_a_body_that_was_given_up_is_ended_once_an_account_has_said_so_p3(keeper, child):
    gives(child, 7)
    for _ in range(2):
        looks_again(keeper)
    assert child.poll() is None

    note([TaskLog(pk=7, attempt=1)], Kind.FORCING)
    looks_again(keeper)

    assert child.wait(10) == -signal.SIGKILL
    assert Kind.FORCED in TaskEvent.objects.filter(task=7).values_list("kind", flat=True)


def test_a_body_is_given_up_only_when_it_was_so_at_two_looks_p3(keeper, child):
    """One that claims at this moment, or is busy after its end, is here for a good reason."""
    gives(child, 7)
    stray = TaskLog(pk=7, attempt=1)
    note([stray], Kind.FORCING)

    looks_again(keeper)
    assert (told(stray), child.poll()) == ([Kind.FORCING], None)
    looks_again(keeper)

    assert child.wait(10) == -signal.SIGKILL


def test_what_the_keeper_remembers_goes_with_its_task(keeper, row, child):
    task = mine(row, Status.CANCELED)
    gives(child, task.pk)
    keeper._watch()
    assert keeper._asked_at

    lifecycle.release(task.pk, 1)
    keeper._watch()

    assert (keeper._asked_at, keeper._unheld_since) == ({}, {})


# The worker's row


def test_a_sign_of_life_says_what_runs_here(keeper, row):
    Worker.objects.update(last_seen_at=seconds_ago(60))
    held.begin_here(7, 1)

    keeper._sign_of_life()

    row.refresh_from_db()
    assert row.held == [[7, 1]]
    assert row.last_seen_at > seconds_ago(30)
    assert row.consuming


def test_a_sign_of_life_that_failed_is_given_again_at_the_next_look(
    boot, keeper, conf, monkeypatch
):
    conf(HEARTBEAT_INTERVAL=60)
    signs, looks = [], []

    def sign():
        signs.append(1)
        if len(signs) == 1:
            raise OperationalError("the database is away")

    def look():
        looks.append(1)
        if len(looks) == 3:
            boot.stopped.set()
        keeper.wake()

    monkeypatch.setattr(keeper, "_sign_of_life", sign)
    monkeypatch.setattr(keeper, "_watch", look)

    keeper.keep_for_ever()

    assert len(signs) == 2


def test_a_loop_that_stands_still_is_told(keeper, row, conf):
    conf(HEARTBEAT_INTERVAL=1)
    keeper._loop_seen_at -= 5

    keeper._sign_of_life()

    row.refresh_from_db()
    assert not row.consuming


def test_who_was_declared_lost_stops_its_bodies_and_begins_a_new_life_p3(
    boot, keeper, row, child
):
    Worker.objects.update(lost_at=seconds_ago(1))
    gives(child, 7)
    boot.consumer.pool.info["processes"] = [child.pid]

    keeper._sign_of_life()

    assert child.wait(10) == -signal.SIGKILL
    assert here.worker_id == boot.row.pk != row.pk
    found = Incident.objects.get()
    assert (found.kind, found.task_id, found.worker_id) == ("zombie", 7, row.pk)
    assert Worker.objects.get(pk=row.pk).lost_at is not None


def test_who_was_declared_lost_can_claim_nothing_before_its_bodies_are_stopped_p3_p4(
    boot, keeper, child, monkeypatch
):
    did = []

    def noting(what, real):
        return lambda *given: (did.append(what), real(*given))

    monkeypatch.setattr(held, "kill_tree", noting("stopped", held.kill_tree))
    monkeypatch.setattr(boot, "register", noting("registered", boot.register))
    Worker.objects.update(lost_at=seconds_ago(1))
    boot.consumer.pool.info["processes"] = [child.pid]

    keeper._sign_of_life()

    assert did == ["stopped", "registered"]


def test_on_threads_the_bodies_of_one_that_was_lost_are_only_told_of(boot, keeper, child):
    boot.prefork = False
    Worker.objects.update(lost_at=seconds_ago(1))
    boot.consumer.pool.info["processes"] = [child.pid]

    keeper._sign_of_life()

    assert child.poll() is None


def test_a_worker_that_is_told_to_leave_says_so_to_itself_once(boot, keeper, monkeypatch):
    signals = []
    monkeypatch.setattr(os, "kill", lambda *given: signals.append(given))
    Worker.objects.update(leaving_at=seconds_ago(1))

    for _ in range(2):
        keeper._sign_of_life()

    assert signals == [(os.getpid(), signal.SIGTERM)]
    assert boot.leaving
    assert interrupts.worker_leaves()


def test_the_time_of_leaving_is_that_of_the_first_word(keeper, row):
    Worker.objects.update(leaving_at=seconds_ago(60))

    keeper._say_leaving()

    row.refresh_from_db()
    assert row.leaving_at < seconds_ago(30)


def test_who_leaves_gives_back_what_it_holds_uncounted_p1(keeper, row):
    running, stopping = mine(row, Status.STARTED), mine(row, Status.CANCELED)
    sent, claimed = make_task(Status.QUEUED), make_task(Status.QUEUED, worker=row)
    others = mine(make_worker(), Status.STARTED)

    keeper.say_goodbye()

    assert Worker.objects.get(pk=row.pk).left_at is not None
    assert (now(running).status, now(running).lost_count) == (Status.PENDING, 0)
    assert not now(stopping).occupies
    assert [now(task).status for task in (sent, others)] == [Status.QUEUED, Status.STARTED]
    assert (now(claimed).status, now(claimed).worker_id) == (Status.PENDING, None)
    assert told(claimed) == ["unsent"]


def test_who_was_declared_lost_before_it_left_has_lost_its_tasks_p1(keeper, row):
    Worker.objects.filter(pk=row.pk).update(lost_at=seconds_ago(1))
    task = mine(row, Status.STARTED)

    keeper.say_goodbye()

    assert Worker.objects.get(pk=row.pk).left_at is None
    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 1)


def test_who_leaves_without_ever_having_had_a_row_ends_no_task_of_others_p3(
    keeper, monkeypatch
):
    """What runs at once (now=True) in some web process has no worker either."""
    monkeypatch.setattr(here, "_shared", bytearray(8))
    elsewhere = make_task(Status.STARTED)
    stopping = make_task(Status.CANCELED, occupies=True)

    keeper.say_goodbye()

    assert (now(elsewhere).status, now(stopping).occupies) == (Status.STARTED, True)


def test_an_errand_that_fails_ends_neither_the_others_nor_the_keeper(keeper, caplog):
    done = []

    def fails():
        raise ValueError("in vain")

    keeper.do(fails)
    keeper.do(lambda: done.append(1))
    keeper._run_errands()

    assert done == [1]
    assert "in vain" in caplog.text


@pytest.mark.parametrize("where", ["_own", "_while_free"])
def test_a_hard_limit_that_falls_into_an_outage_is_not_taken_for_a_loss(
    keeper, row, monkeypatch, where
):
    make_type()
    task = mine(row, Status.STARTED, timeout=10)

    def is_away(*_given):
        raise OperationalError("server closed the connection unexpectedly")

    keeper.do(partial(keeper.timed_out, task.pk, 1))
    with monkeypatch.context() as patched:
        patched.setattr(keeper, where, is_away)
        keeper._run_errands()
    # By now the pool has killed the child.
    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    after = now(task)
    assert (after.status, after.ended_reason, after.lost_count) == (
        "Failed",
        "timed out",
        0,
    )
    keeper._run_errands()
    assert (keeper._errands, keeper._overdue) == ([], set())


def test_a_limit_that_comes_after_the_end_does_not_keep_a_place_p4(keeper, row):
    task = mine(row, Status.CANCELED)
    keeper.timed_out(task.pk, 1)

    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert not now(task).occupies


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (OperationalError, 3),
        (InterfaceError, 3),
        (InternalError, 3),
        (ProgrammingError, 1),
        (IntegrityError, 1),
        (ValueError, 1),
    ],
)
def test_an_errand_waits_for_the_database_but_not_for_better_code(keeper, error, tries):
    tried = []

    def fails():
        tried.append(1)
        raise error("in vain")

    keeper.do(fails)
    for _ in range(3):
        keeper._run_errands()

    assert len(tried) == tries


# The dispatcher's thread


def test_nobody_is_declared_lost_right_after_the_database_was_away(boot):
    """Then every worker seems silent, until it has given its next sign."""
    other = make_worker(last_seen_at=seconds_ago(3600))
    boot._trouble_at = time.monotonic()

    boot._rescue()
    assert Worker.objects.get(pk=other.pk).lost_at is None

    boot._trouble_at -= 60
    boot._rescue()
    assert Worker.objects.get(pk=other.pk).lost_at is not None


def test_a_pass_that_fails_is_logged_and_puts_the_rescue_off(boot, monkeypatch, caplog):
    def fails(_hands):
        raise ValueError("a bad pass")

    monkeypatch.setattr(worker, "make_pass", fails)
    boot.stopped.set()

    assert boot._dispatch_once(boot.keeper.work) is False

    assert "a bad pass" in caplog.text
    assert time.monotonic() - boot._trouble_at < 60


def test_a_worker_says_goodbye_once_and_only_in_its_own_process(boot, keeper, monkeypatch):
    said = []
    monkeypatch.setattr(keeper, "say_goodbye", lambda: said.append(1))
    pid, boot.process = boot.process, SimpleNamespace(pid=os.getpid() + 1)

    boot.stop()
    assert said == []

    boot.process = pid
    boot.stop()
    boot.stop()
    assert said == [1]


# What somebody else's open transaction holds

holds = pytest.mark.only_on("postgresql", "mysql")


def lock(row):
    """Hold a row until the end of this transaction."""
    assert type(row).objects.select_for_update().get(pk=row.pk)


@holds
@pytest.mark.parametrize("status", [Status.CANCELED, Status.STARTED])
def test_a_held_row_keeps_the_keeper_from_no_other_p4(keeper, row, status, monkeypatch):
    monkeypatch.setattr(worker, "UNHELD_FOR", 0)
    make_type()
    first, second = mine(row, status), mine(row, status)
    looks_again(keeper)
    TaskLog.objects.filter(pk__in=[first.pk, second.pk]).update(
        status=status, occupies=True, worker=row
    )

    with transaction.atomic():
        lock(first)
        beside(lambda: looks_again(keeper))
        assert (now(first).occupies, now(second).occupies) == (True, False)

    looks_again(keeper)
    assert not now(first).occupies


@holds
def test_a_hard_limit_that_cannot_be_written_is_not_taken_for_a_loss(keeper, row):
    make_type()
    task = mine(row, Status.STARTED)
    keeper.do(partial(keeper.timed_out, task.pk, 1))

    with transaction.atomic():
        lock(task)
        beside(keeper._run_errands)
    keeper.process_lost(task.pk, 1, "signal 9 (SIGKILL)")

    assert (now(task).status, now(task).ended_reason) == (Status.FAILED, "timed out")
    keeper._run_errands()
    assert not keeper._errands


@holds
def test_an_errand_for_a_held_row_is_done_when_it_is_free(keeper, row):
    make_type()
    task, other = mine(row, Status.STARTED), mine(row, Status.STARTED)
    for one in (task, other):
        keeper.do(partial(keeper.process_lost, one.pk, 1, "signal 9 (SIGKILL)"))

    with transaction.atomic():
        lock(task)
        beside(keeper._run_errands)
        assert [now(one).status for one in (task, other)] == [
            Status.STARTED,
            Status.PENDING,
        ]
    keeper._run_errands()

    assert now(task).status == Status.PENDING


def test_an_errand_for_a_row_that_is_gone_is_over(keeper, row):
    task = mine(row, Status.STARTED)
    TaskLog.objects.filter(pk=task.pk).delete()

    assert keeper._while_free(task.pk, lambda: None)


@holds
def test_a_sign_of_life_that_cannot_be_given_is_given_later(keeper, row, caplog):
    def tick():
        with impatient("default"):
            keeper._keep(Every(60, keeper._sign_of_life, insist=True), keeper.work)

    done = []
    keeper.do(lambda: done.append("an errand"))
    with transaction.atomic():
        lock(row)
        beside(tick)

    assert done
    assert "gave up on a lock" in caplog.text
    assert not [one for one in caplog.records if one.exc_info]
    tick()
    assert Worker.objects.get(pk=row.pk).last_seen_at > row.last_seen_at


def test_a_queue_that_the_project_has_declared_itself_stays_as_it_is():
    quorum = {"x-queue-type": "quorum"}
    app = Celery(set_as_current=False)
    app.conf.task_queues = [Queue("short", queue_arguments=quorum)]

    worker.declare_queues(app)

    assert app.amqp.queues["short"].queue_arguments == quorum
    assert {"short", "default", "long"} <= set(app.amqp.queues)


def test_queues_are_of_the_kind_that_the_project_wants_for_all():
    app = Celery(set_as_current=False)
    app.conf.task_create_missing_queue_type = "quorum"

    worker.declare_queues(app)

    assert app.amqp.queues["long"].queue_arguments == {"x-queue-type": "quorum"}
