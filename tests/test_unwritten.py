"""``unwritten.py``: no end of a body on the deck is forgotten, and none that began goes back unseen."""

from __future__ import annotations

import time

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DataError, OperationalError, connection

from taskcontrol import ends, execution, interrupts, lifecycle, lines, serving
from taskcontrol.deck import Claimed, Deck, Taken
from taskcontrol.ends import End, EndKind
from taskcontrol.errands import safely
from taskcontrol.execution import here
from taskcontrol.forks import DatabaseWork
from taskcontrol.lines import Answer, Job, Line
from taskcontrol.models import Incident, OnLost, TaskLog
from taskcontrol.serving import COLUMNS, Servant
from taskcontrol.status import Status
from taskcontrol.unwritten import UnwrittenEnd
from tests.factories import make_task, make_type, make_worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

PID = 4711
MEASURES = {"peak_memory_usage": 55, "debug_log": "said"}


@pytest.fixture(autouse=True)
def worker(monkeypatch):
    monkeypatch.setattr(here, "_shared", bytearray(8))
    monkeypatch.setattr(ends, "END_PAUSES", ())
    worker = make_worker()
    here.worker_id = worker.pk
    return worker


@pytest.fixture
def deck():
    return Deck()


def now(task):
    return TaskLog.objects.get(pk=task.pk)


def refuses(error):
    def refuse(*_given, **_more):
        raise error

    return refuse


# What the main process does with it


def over(deck, worker, end, *, simple=False, **columns):
    """Return a task whose child has said that its end is not written, and the errand."""
    status = Status.QUEUED if simple else Status.STARTED
    task = make_task(status, worker=worker, **columns)
    one = Claimed(task, Taken(0.001), writes_itself=not simple)
    one.answered = True
    deck.put([one])
    began = time.monotonic() - 2
    return task, UnwrittenEnd(
        deck, one, PID, Answer(1, lines.UNWRITTEN, began, began + 1, end)
    )


def do(errand):
    return safely(errand, DatabaseWork())


def test_an_end_that_came_along_is_written_and_then_the_attempt_is_forgotten(deck, worker):
    task, errand = over(deck, worker, End(EndKind.FINISHED, {"result": 7, **MEASURES}))

    assert do(errand) is not False

    row = now(task)
    assert (row.status, row.result, row.debug_log) == (Status.FINISHED, 7, "said")
    assert not deck.all


def test_with_the_end_of_a_body_its_begin_is_written_p1(deck, worker):
    end = End(EndKind.FAILED, {"error": "ValueError: no", **MEASURES})
    task, errand = over(deck, worker, end, simple=True)

    do(errand)

    row = now(task)
    assert (row.status, row.error_message) == (Status.FAILED, "ValueError: no")
    assert (row.pid, row.occupies) == (PID, False)
    assert row.queued_at <= row.started_at <= row.ended_at


def test_until_the_database_takes_it_the_worker_vouches_for_it_p1(
    deck, worker, monkeypatch
):
    task, errand = over(deck, worker, End(EndKind.FINISHED, {"result": 7, **MEASURES}))

    with monkeypatch.context() as away:
        away.setattr(lifecycle, "finish", refuses(OperationalError("away")))
        assert do(errand) is False
    assert list(deck.all) == [(task.pk, task.attempt)]

    assert do(errand) is not False
    assert now(task).status == Status.FINISHED
    assert not deck.all


def test_an_end_that_no_database_takes_is_how_the_body_failed(deck, worker, monkeypatch):
    task, errand = over(deck, worker, End(EndKind.FINISHED, {"result": 7, **MEASURES}))
    monkeypatch.setattr(lifecycle, "finish", refuses(DataError("too long")))

    do(errand)

    assert (now(task).status, now(task).error_message) == (
        Status.FAILED,
        "DataError: too long",
    )
    assert not deck.all


def test_of_what_nothing_can_be_said_the_worker_lets_go_p1(deck, worker, monkeypatch):
    _, errand = over(deck, worker, End(EndKind.FINISHED, {"result": 7, **MEASURES}))
    for name in ("finish", "fail"):
        monkeypatch.setattr(lifecycle, name, refuses(DataError("too long")))

    do(errand)

    assert not deck.all


@pytest.mark.parametrize("simple", [True, False])
def test_a_body_that_nobody_saw_end_is_lost_and_counted_p1(deck, worker, simple):
    task, errand = over(deck, worker, End(EndKind.LOST, {"where": "here"}), simple=simple)

    do(errand)

    row = now(task)
    assert (row.status, row.lost_count) == (Status.PENDING, 1)
    assert not deck.all


def test_such_a_body_does_not_begin_again_if_it_must_not(deck, worker):
    make_type(on_lost=OnLost.FAIL)
    task, errand = over(deck, worker, End(EndKind.LOST, {"where": "here"}), simple=True)

    do(errand)

    assert now(task).status == Status.FAILED
    assert now(task).error_message.startswith("WorkerLost")


def test_of_a_canceled_task_the_place_is_freed_p6(deck, worker):
    end = End(EndKind.FINISHED, {"result": 7, **MEASURES})
    task, errand = over(deck, worker, end, simple=True)
    lifecycle.cancel(task)
    assert now(task).occupies

    do(errand)

    assert (now(task).status, now(task).occupies) == (Status.CANCELED, False)
    assert now(task).result is None


def test_a_successor_is_not_touched_and_an_account_is_told_p3(deck, worker):
    task, errand = over(deck, worker, End(EndKind.FINISHED, {"result": 7, **MEASURES}))
    TaskLog.objects.filter(pk=task.pk).update(attempt=task.attempt + 1)

    do(errand)

    assert now(task).status == Status.STARTED
    assert Incident.objects.get().kind == "zombie"


# What the child says


@pytest.fixture
def servant(monkeypatch):
    monkeypatch.setattr(interrupts, "install_time_limit", lambda: None)
    monkeypatch.setattr(lines.lease, "holds", lambda: True)
    line = Line()
    line.main_end.setblocking(False)
    yield Servant(line, lambda: False)
    interrupts.expect(None)
    line.main_end.close()
    line.child_end.close()


def as_claimed(task):
    """Return what stands in a row as it is given to a child."""
    fields = [TaskLog._meta.get_field(name) for name in COLUMNS]
    if connection.vendor == "mysql":
        return tuple(getattr(now(task), field.attname) for field in fields)
    columns = ", ".join(field.column for field in fields)
    with connection.cursor() as cursor:
        table = TaskLog._meta.db_table
        cursor.execute(f"SELECT {columns} FROM {table} WHERE id = %s", [task.pk])
        return tuple(cursor.fetchone())


def served(servant, worker, *, simple=False, written=True, **columns):
    """Let a child run a task, and return the row and its answers."""
    columns.setdefault("method", "tests.tasks.give_back")
    columns.setdefault("arguments", {"value": 7})
    task = make_task(Status.QUEUED, worker=worker if simple else None, **columns)
    values = as_claimed(task) if simple else None
    if simple and written:
        key = (task.pk, task.attempt)
        assert lifecycle.begin(*key, worker_id=worker.pk, pid=PID, since=time.monotonic())
        servant.line.page.written = 1
    servant.line.give([Job(1, task.pk, task.attempt, values)])
    servant.serve(None)
    said = [one for one in servant.line.answers() if one.what != lines.ASKS]
    return task, said


FAILS = {"method": "tests.tasks.fail", "arguments": {}}


def test_a_child_says_that_all_is_written_when_it_is(servant, worker):
    task, said = served(servant, worker)
    assert [one.what for one in said] == [lines.DONE]
    assert now(task).status == Status.FINISHED

    servant.line.page.taken_back = 0
    task, said = served(servant, worker, simple=True, **FAILS)
    assert [one.what for one in said] == [lines.DONE]
    assert now(task).error_message.endswith("ValueError: it failed")


@pytest.mark.parametrize("simple", [True, False])
def test_an_end_that_the_database_does_not_take_goes_along_p1(
    servant, worker, monkeypatch, simple
):
    monkeypatch.setattr(lifecycle, "fail", refuses(OperationalError("away")))

    _, (answer,) = served(servant, worker, simple=simple, **FAILS)

    assert answer.what == lines.UNWRITTEN
    kind, told = answer.told
    assert kind == EndKind.FAILED
    assert told["error"].endswith("ValueError: it failed")
    assert told["time_taken"].total_seconds() >= 0


def test_the_end_of_a_body_whose_begin_is_not_written_goes_along_p1(
    servant, worker, monkeypatch
):
    monkeypatch.setattr(serving, "WORD_TAKES", 0)

    task, (answer,) = served(servant, worker, simple=True, written=False, **FAILS)

    assert (answer.what, answer.told[0]) == (lines.UNWRITTEN, EndKind.FAILED)
    assert now(task).status == Status.QUEUED


def test_an_end_that_was_written_is_not_written_again_for_what_fails_behind_it(
    servant, worker, monkeypatch
):
    monkeypatch.setattr(execution.hooks, "after", refuses(RuntimeError("a hook")))

    task, said = served(servant, worker)

    assert [one.what for one in said] == [lines.DONE]
    assert now(task).status == Status.FINISHED


def test_a_limit_that_comes_behind_a_body_costs_it_no_end_p1(servant, worker, monkeypatch):
    after = []

    def late():
        after.append(interrupts._is_meant())
        if len(after) > 1:  # once before the body
            raise SoftTimeLimitExceeded

    monkeypatch.setattr(execution, "close_old_connections", late)
    servant.line.page.aim = 1

    _, (answer,) = served(servant, worker, simple=True)

    assert (answer.what, answer.told[3]) == (lines.RETURNED, 7)
    assert after[-1] is False


def test_a_body_that_nobody_saw_end_is_said_to_be_lost_p1(servant, worker, monkeypatch):
    monkeypatch.setattr(execution.Body, "run", refuses(MemoryError()))

    _, (answer,) = served(servant, worker, simple=True)

    assert (answer.what, answer.told[0]) == (lines.UNWRITTEN, EndKind.LOST)


def test_an_end_that_no_line_carries_spoils_no_other_answer(servant, worker, monkeypatch):
    told = End(EndKind.FINISHED, {"result": lambda: None})
    monkeypatch.setattr(ends, "end_of", lambda *_: told)
    monkeypatch.setattr(lifecycle, "finish", refuses(OperationalError("away")))
    monkeypatch.setattr(ends, "write", refuses(OperationalError("away")))

    _, (answer,) = served(servant, worker)

    assert (answer.what, answer.told[0]) == (lines.UNWRITTEN, EndKind.LOST)
