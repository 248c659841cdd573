"""``departure.py``: what has returned is written before a worker leaves, as long as that may take."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from celery.worker import state
from django.db import OperationalError

from taskcontrol import departure as room, journal, lifecycle
from taskcontrol.deck import Deck
from taskcontrol.departure import Departure
from taskcontrol.execution import here
from taskcontrol.journal import Journal
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests.factories import make_worker
from tests.test_journal import claimed, returned
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def worker(monkeypatch):
    monkeypatch.setattr(here, "_shared", bytearray(8))
    row = make_worker()
    here.worker_id = row.pk
    return row


@pytest.fixture
def boot():
    deck = Deck()
    hands = SimpleNamespace(deck=deck, journal=Journal(deck), stop=lambda: None)
    threads = [
        threading.Thread(target=target, daemon=True)
        for target in (lambda: None, hands.journal.write_for_ever)
    ]
    for thread in threads:
        thread.start()
    yield SimpleNamespace(hands=hands, by_hand=threads)
    hands.journal.stop(within=0)
    threads[1].join(30)


@pytest.fixture
def departure(boot, monkeypatch):
    monkeypatch.setattr(room, "SHORT", 0.01)
    return Departure(boot)


@pytest.fixture
def refused(monkeypatch):
    """The database takes no end until the returned event is set; count the tries."""
    takes, tries, write = threading.Event(), [], lifecycle.finish_claimed

    def finish(*given, **more):
        tries.append(1)
        if not takes.is_set():
            raise OperationalError("the database is away")
        return write(*given, **more)

    monkeypatch.setattr(journal, "PAUSE", 0.01)
    monkeypatch.setattr(lifecycle, "finish_claimed", finish)
    return SimpleNamespace(takes=takes, tries=tries)


def a_returned_body(boot, worker):
    task, one = claimed(boot.hands.journal, worker)
    boot.hands.deck.note_answer(one, over=True)
    boot.hands.journal.ended(one, returned(one))
    return task


def leave(departure):
    """Let the worker leave in a thread of its own; the tests do what comes meanwhile."""
    thread = threading.Thread(target=departure.write_ends, daemon=True)
    thread.start()
    eventually(lambda: departure.has_begun)
    return thread


def status_of(task):
    return TaskLog.objects.get(pk=task.pk).status


def test_what_has_returned_is_written_before_its_worker_leaves_p1(
    boot, departure, worker, refused
):
    task = a_returned_body(boot, worker)

    leaving = leave(departure)
    eventually(lambda: len(refused.tries) > 3)
    assert leaving.is_alive()
    refused.takes.set()
    leaving.join(30)

    assert not leaving.is_alive()
    assert status_of(task) == Status.FINISHED
    assert boot.hands.deck.unwritten() == []


def test_who_has_tried_for_long_leaves_and_says_so(
    boot, departure, worker, refused, monkeypatch, caplog
):
    monkeypatch.setattr(room, "LONGEST", 0.0)
    task = a_returned_body(boot, worker)

    leave(departure).join(30)

    boot.by_hand[1].join(30)
    assert not boot.by_hand[1].is_alive()
    assert "the ends of 1 tasks cannot be written" in caplog.text
    assert "leaves although the ends of 1 tasks are not written" in caplog.text
    assert f"The first are: {task.pk}." in caplog.text
    assert boot.hands.deck.unwritten() == [(task.pk, 1)]


def test_another_signal_ends_the_wait_at_once(boot, departure, worker, refused):
    task = a_returned_body(boot, worker)
    leaving = leave(departure)
    eventually(lambda: refused.tries)

    departure.insist()
    leaving.join(30)

    assert not leaving.is_alive()
    assert status_of(task) == Status.QUEUED


def test_who_is_stopped_cold_waits_less(boot, departure, worker, refused, monkeypatch):
    monkeypatch.setattr(state, "should_terminate", True)
    monkeypatch.setattr(room, "LONGEST_COLD", 0.0)
    a_returned_body(boot, worker)

    leaving = leave(departure)
    leaving.join(30)

    assert not leaving.is_alive()


def test_the_signal_that_lets_a_worker_leave_does_not_insist(
    boot, departure, worker, refused
):
    task = a_returned_body(boot, worker)
    departure.insist()

    leaving = leave(departure)
    eventually(lambda: len(refused.tries) > 3)
    refused.takes.set()
    leaving.join(30)

    assert status_of(task) == Status.FINISHED


def test_nothing_is_waited_for_but_what_has_returned(boot, departure, worker):
    """What was only claimed is given back."""
    claimed(boot.hands.journal, worker)

    leaving = leave(departure)
    leaving.join(30)

    assert not leaving.is_alive()


def test_who_gives_nothing_to_children_has_nothing_to_wait_for():
    departure = Departure(SimpleNamespace(hands=None, by_hand=[]))

    departure.write_ends()

    assert departure.has_begun
