"""When a burst is over: nothing of its queues was sent or runs, for a while."""

from __future__ import annotations

import os
import signal

import pytest

from taskcontrol import burst as room
from taskcontrol.burst import Burst
from tests.factories import make_task, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.fixture
def ended(monkeypatch):
    """The signals that were sent."""
    sent = []
    monkeypatch.setattr(room, "PATIENCE", 0)
    monkeypatch.setattr(os, "kill", lambda pid, signum: sent.append((pid, signum)))
    return sent


def look(queues=("short",), worker=None, *, wanted=True):
    one = Burst()
    one.wanted = wanted
    one.end_if_over(None if worker is None else worker.pk, list(queues))
    return one


def test_a_worker_without_work_asks_itself_for_a_warm_shutdown_once(ended):
    one = look(worker=make_worker())
    one.end_if_over(1, ["short"])

    assert ended == [(os.getpid(), signal.SIGTERM)]


def test_what_another_worker_has_claimed_is_not_for_it(ended):
    make_task("Queued", queue="short", worker=make_worker())

    look(["short"], make_worker())

    assert ended == [(os.getpid(), signal.SIGTERM)]


def test_what_was_sent_or_runs_here_keeps_it(ended):
    me, other = make_worker(), make_worker()
    make_task("Queued", queue="short")
    look(["short", "long"], me)
    look(["long"], me, wanted=False)
    assert ended == []

    make_task("Started", queue="default", worker=me)
    look(["long"], me)
    look(["long"], None)
    assert ended == []

    look(["long"], other)
    assert len(ended) == 1


def test_tasks_that_wait_with_nothing_running_are_held_back_and_keep_nobody(ended):
    make_task("Pending", queue="short")
    make_task("Paused", queue="short")

    look(worker=make_worker())

    assert len(ended) == 1


def test_it_waits_for_a_while_and_begins_anew_after_each_task(ended, monkeypatch):
    monkeypatch.setattr(room, "PATIENCE", 5)
    now = [100.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    me, one = make_worker(), Burst()
    one.wanted = True
    for at, busy, over in [
        (100, False, False),
        (104, False, False),
        (104.5, True, False),
        (106, False, False),
        (110.9, False, False),
        (111, False, True),
    ]:
        now[0] = at
        task = make_task("Started", worker=me) if busy else None
        one.end_if_over(me.pk, ["short"])
        if task is not None:
            task.delete()
        assert bool(ended) is over
