"""``journal.py``: every end is written once, in groups where that goes, else one by one."""

from __future__ import annotations

import time

import pytest
from django.db import OperationalError

from taskcontrol import journal as room, lifecycle
from taskcontrol.deck import Claimed, Deck
from taskcontrol.execution import here
from taskcontrol.forks import DatabaseWork
from taskcontrol.journal import Journal
from taskcontrol.lines import Page
from taskcontrol.lockwaits import LockWaitOver
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, make_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

PID = 4711


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    monkeypatch.setattr(here, "_shared", bytearray(8))
    worker = make_worker()
    here.worker_id = worker.pk
    return worker


@pytest.fixture
def journal():
    return Journal(Deck())


@pytest.fixture
def work():
    return DatabaseWork()


def claimed(journal, worker, **columns):
    task = make_task(Status.QUEUED, worker=worker, **columns)
    one = Claimed(task, 0.001)
    journal.deck.put([one])
    return task, one


def returned(one, value=7):
    now = time.monotonic()
    return (*one.key, PID, now - 2, now - 1, 1.0, 55, "said", value, None)


def now(task):
    return TaskLog.objects.get(pk=task.pk)


def test_many_ends_are_written_at_once_with_what_each_tells(journal, worker, work):
    pairs = [claimed(journal, worker) for _ in range(3)]
    for number, (_, one) in enumerate(pairs):
        journal.ended(one, returned(one, {"n": number}))

    journal._write(work)

    rows = [now(task) for task, _ in pairs]
    assert {row.status for row in rows} == {Status.FINISHED}
    assert [row.result for row in rows] == [{"n": 0}, {"n": 1}, {"n": 2}]
    for row in rows:
        assert (row.pid, row.occupies, row.rev, row.debug_log) == (PID, False, 1, "said")
        assert row.queued_at <= row.started_at <= row.ended_at
        assert (row.time_taken.total_seconds(), row.peak_memory_usage) == (1.0, 55)
    assert not journal.deck.all


def test_a_begin_that_nobody_asked_for_is_told_too(journal, worker, work):
    """What a body has forked waits for the word, and cannot ask."""
    _, one = claimed(journal, worker)
    page, one.number = Page(), 3
    page.begin(3)
    journal.began(one, PID, page, asked=False)

    journal._write(work)

    assert page.written == 3


def test_a_begin_is_written_with_the_time_since_when_the_body_runs(journal, worker, work):
    task, one = claimed(journal, worker)
    page = Page()
    page.begin(1)
    one.number = 1
    journal.began(one, PID, page, asked=True)

    journal._write(work)

    assert (now(task).status, now(task).pid) == (Status.STARTED, PID)
    assert page.written == 1
    journal.ended(one, returned(one))
    journal._write(work)
    assert (now(task).status, now(task).rev) == (Status.FINISHED, 2)


def test_who_asks_after_a_cancel_is_told_that_nobody_wants_it_p6(journal, worker, work):
    task, one = claimed(journal, worker)
    one.number = 1
    lifecycle.cancel(task)
    assert now(task).occupies
    page = Page()
    page.begin(1)
    journal.began(one, PID, page, asked=True)

    journal._write(work)

    assert (page.written, page.unwanted) == (0, 1)


def test_the_end_of_a_canceled_body_frees_its_place_and_changes_nothing_p6(
    journal, worker, work
):
    task, one = claimed(journal, worker)
    lifecycle.cancel(task)
    other, second = claimed(journal, worker)
    for each in (one, second):
        journal.ended(each, returned(each))

    journal._write(work)

    assert (now(task).status, now(task).occupies) == (Status.CANCELED, False)
    assert now(task).result is None
    gone = TaskEvent.objects.get(task=task, kind=TaskEvent.Kind.GONE)
    assert gone.detail == f"it had begun in process {PID}, and came to its end"
    assert now(other).status == Status.FINISHED
    assert not journal.deck.all


def test_an_attempt_that_was_given_up_changes_no_successor_p3(journal, worker, work):
    task, one = claimed(journal, worker)
    lifecycle.unsend([one.key], detail="lost", worker_id=worker.pk)
    lifecycle.promote([task.pk], site="s")
    journal.ended(one, returned(one))

    journal._write(work)

    assert (now(task).status, now(task).attempt) == (Status.QUEUED, 2)
    assert now(task).occupies


def test_an_older_attempt_ends_no_newer_one_of_the_same_worker_p3(journal, worker, work):
    task, one = claimed(journal, worker)
    lifecycle.unsend([one.key], detail="lost", worker_id=worker.pk)
    lifecycle.promote_and_claim([task.pk], site="s", worker_id=worker.pk)
    journal.ended(one, returned(one))

    journal._write(work)

    assert (now(task).status, now(task).attempt) == (Status.QUEUED, 2)
    assert now(task).occupies


def test_a_task_of_which_somebody_wants_to_hear_ends_too(journal, worker, work):
    task, one = claimed(journal, worker, heard=True)
    journal.ended(one, returned(one))

    journal._write(work)

    assert (now(task).status, now(task).rev) == (Status.FINISHED, 2)


@pytest.mark.parametrize("error", [OperationalError("away"), LockWaitOver("held")])
def test_no_end_is_lost_while_the_database_does_not_take_it_p1(
    journal, worker, work, monkeypatch, error
):
    task, one = claimed(journal, worker)
    journal.ended(one, returned(one))
    monkeypatch.setattr(room, "PAUSE", 0)

    def refuses(*_given, **_more):
        raise error

    with monkeypatch.context() as away:
        away.setattr(lifecycle, "finish_claimed", refuses)
        journal._write(work)
    assert now(task).status == Status.QUEUED
    assert journal.deck.all

    journal._write(work)

    assert now(task).status == Status.FINISHED
    assert not journal.deck.all


def test_one_end_that_is_refused_keeps_no_other_from_being_written(journal, worker, work):
    task, one = claimed(journal, worker)
    bad, second = claimed(journal, worker)
    journal.ended(one, returned(one))
    journal.ended(second, (*returned(second)[:7], "a\x00b", None, None))

    journal._write(work)
    journal._write(work)

    assert now(task).status == Status.FINISHED
    assert now(bad).status in (Status.FAILED, Status.FINISHED)
    assert not journal.deck.all


def test_a_journal_that_is_to_end_writes_what_it_has_first(journal, worker):
    task, one = claimed(journal, worker)
    journal.ended(one, returned(one))
    journal.stop(within=30)

    journal.write_for_ever()

    assert now(task).status == Status.FINISHED
