"""The keeper: what a worker's main process does about rows that nothing in it runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from taskcontrol import execution, held, worker as rooms
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


@pytest.fixture
def row(monkeypatch):
    """The row of a worker whose main process this is."""
    monkeypatch.setattr(execution.here, "_shared", bytearray(8))
    monkeypatch.setattr(held, "_here", {})
    row = make_worker()
    execution.here.worker_id = row.pk
    return row


@pytest.fixture
def look(monkeypatch):
    """Let a keeper look: its worker's pool has children or not."""
    monkeypatch.setattr(rooms, "UNHELD_FOR", 0)

    def look(*, prefork):
        keeper = rooms.Keeper(SimpleNamespace(facts={"hostname": "w"}, prefork=prefork))
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
