"""The keeper: a worker's signs of life, its errands, and how it leaves."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
from django.db import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
    transaction,
)

from taskcontrol import held, interrupts
from taskcontrol.execution import here
from taskcontrol.lockwaits import impatient
from taskcontrol.models import Incident, Worker
from taskcontrol.status import Status
from taskcontrol.timers import Every
from tests.children import a_child, gives
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.mainprocess import a_boot, a_row, mine, nothing_held, now, told
from tests.waiting import beside

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


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


def test_a_sign_of_life_says_what_runs_here(keeper, row):
    Worker.objects.update(last_seen_at=seconds_ago(60))
    held.begin_here(7, 1)

    keeper._sign_of_life()

    row.refresh_from_db()
    assert row.held == [[7, 1]]
    assert row.last_seen_at > seconds_ago(30)
    assert row.consuming


def test_a_sign_of_life_that_failed_is_given_again_at_the_next_look(
    boot, keeper, lookout, conf, monkeypatch
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
    monkeypatch.setattr(boot.lookout, "watch", look)

    keeper.keep_for_ever()

    assert len(signs) == 2


def test_a_loop_that_stands_still_is_told(keeper, lookout, row, conf):
    conf(HEARTBEAT_INTERVAL=1)
    lookout.loop_seen_at -= 5

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


def test_who_leaves_while_the_database_is_away_ends_all_the_same(
    keeper, monkeypatch, caplog
):
    def is_away(*_given, **_more):
        raise OperationalError("the database is away")

    monkeypatch.setattr(keeper, "_say_left", is_away)
    monkeypatch.setattr(keeper, "_own_rows", is_away)

    keeper.say_goodbye()

    assert "the database is away" in caplog.text


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


# What somebody else's open transaction holds

holds = pytest.mark.only_on("postgresql", "mysql")


def lock(row):
    """Hold a row until the end of this transaction."""
    assert type(row).objects.select_for_update().get(pk=row.pk)


@holds
def test_an_errand_for_a_held_row_is_done_when_it_is_free(keeper, lookout, row):
    make_type()
    task, other = mine(row, Status.STARTED), mine(row, Status.STARTED)
    for one in (task, other):
        keeper.do(partial(lookout.process_lost, one.pk, 1, "signal 9 (SIGKILL)"))

    with transaction.atomic():
        lock(task)
        beside(keeper._run_errands)
        assert [now(one).status for one in (task, other)] == [
            Status.STARTED,
            Status.PENDING,
        ]
    keeper._run_errands()

    assert now(task).status == Status.PENDING


@holds
def test_who_leaves_passes_over_what_somebody_holds(keeper, row, caplog):
    task, other = mine(row, Status.STARTED), mine(row, Status.STARTED)

    with transaction.atomic():
        lock(task)
        beside(keeper.say_goodbye)

    assert [now(one).status for one in (task, other)] == [Status.STARTED, Status.PENDING]
    assert "gave up on a lock" not in caplog.text


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
