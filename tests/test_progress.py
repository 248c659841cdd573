"""How far a task is: taken often, written seldom, by the attempt that runs."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import taskcontrol
from taskcontrol import lifecycle, progress, side
from taskcontrol.context import running
from taskcontrol.currenttask import CurrentTask
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests.factories import make_task
from tests.waiting import beside, eventually, within

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


@pytest.fixture
def report():
    """Say something for a task, as its body does."""
    reporters = {}

    def say(task, message):
        reporter = reporters.setdefault(task.pk, progress.Reporter(task.pk, 1))
        reporter.report(message)
        return reporter

    yield say
    for one in reporters.values():
        one.close()


def stored(task):
    return TaskLog.objects.values_list("progress", flat=True).get(pk=task.pk)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("half way", {"message": "half way"}),
        ("", {"message": ""}),
        (5, {"message": "5"}),
        ("no\0pe", {"message": "no\ufffdpe"}),
        ({"progress": {"count": 3, "total": 10}}, {"count": 3, "total": 10}),
        ({"progress": {"description": "x"}}, {"description": "x"}),
        ({"progress": {}}, {}),
        ({"count": 1, "message": "m"}, {"count": 1, "message": "m"}),
    ],
    ids=str,
)
def test_a_message_is_stored_in_one_form(message, expected):
    assert progress.as_progress(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        {"progress": {"percent": 5}},
        {"progress": [3, 10, "x"]},
        {"progress": None},
        {"progress": 5},
        {"progress": "half"},
        {"progress": {"count": float("nan")}},
        {"progress": {"description": "\0"}},
        pytest.param({"progress": {"count": object()}}, id="an object"),
        {"progress": {1: 2}},
        pytest.param({"progress": {"description": "x" * 5000}}, id="too long"),
        {"what": "ever"},
        {"count": "x", "total": -1},
        {"progress": {"count": -1}},
        {"progress": {"total": "10"}},
        {"progress": {"total": True}},
        {"progress": {"count": float("inf")}},
        {"progress": {"count": 1, "total": 1e308}},
        {"progress": {"count": progress.MOST + 1}},
        pytest.param({"progress": {"count": 1, "total": 10**400}}, id="huge"),
        pytest.param({"progress": {"count": 10**5000}}, id="no text can be made of it"),
        pytest.param({"progress": {"description": 10**5000}}, id="nor of this"),
        None,
    ],
    ids=str,
)
def test_a_message_that_cannot_be_shown_is_refused(message):
    with pytest.raises(InvalidCall, match="progress message"):
        progress.as_progress(message)


#: What no call stores, and a hand or another version may have left in a row.
NONSENSE = [
    {"count": 1, "total": 10**400},
    {"count": 1, "total": 1e308},
    {"count": 1e-320, "total": 1},
    {"count": "1", "total": "x"},
    {"count": [1], "total": {"a": []}},
    {"count": True, "total": -5},
    {"description": [["a"]], "message": {"b": 1}},
    ["progress"],
    "a text",
    7,
]


@pytest.mark.parametrize("stored", NONSENSE, ids=lambda one: f"{one!r:.40}")
def test_of_nonsense_in_a_row_only_what_can_be_shown_is_told(stored):
    said = progress.said_of(stored)
    now = timezone.now()
    assert all(one is None or 0 <= one <= progress.MOST for one in (said.count, said.total))
    assert isinstance(said.text, str)
    assert progress.seconds_left(said, now - timedelta(hours=1), now) is None


def test_what_can_be_shown_is_told_beside_what_cannot():
    said = progress.said_of({"count": 3, "total": float("nan"), "description": "\ud800x"})
    assert said == progress.Said(3, None, "\ufffdx", None)


def test_a_bad_message_fails_no_body_and_is_told_in_its_log(caplog):
    task = make_task("Started")
    with running(CurrentTask(task)) as current:
        taskcontrol.notify_task_status("half way")
        taskcontrol.notify_task_status({"progress": None})

    assert current.progress == {"message": "half way"}
    assert f"Task {task.pk} goes on without a message: A progress message is" in caplog.text
    current.close()


def test_a_long_text_is_cut():
    assert len(progress.as_progress("x" * 10**6)["message"]) == 1000


def test_outside_of_a_task_nothing_is_said():
    taskcontrol.notify_task_status("anything")


def test_the_running_attempt_says_how_far_it_is():
    task = make_task(Status.STARTED)

    with closing(CurrentTask(task)) as current, running(current):
        taskcontrol.notify_task_status({"progress": {"count": 1, "total": 3}})
        taskcontrol.notify_task_status({"progress": {"count": 2}})

    assert stored(task) == {"count": 1, "total": 3}
    assert current.progress == {"count": 2, "total": 3}
    assert TaskLog.objects.get().rev == 1


def test_many_messages_are_written_at_most_four_times_a_second(monkeypatch):
    task = make_task(Status.STARTED)
    reporter = progress.Reporter(task.pk, 1)
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    monkeypatch.setattr(reporter, "_write_soon", lambda: None)

    for number in range(1000):
        now = 100 + number / 1000
        reporter.report({"count": number})

    assert TaskLog.objects.get().rev == 4
    assert stored(task) == {"count": 750}
    assert reporter.latest == {"count": 999}


def test_a_message_is_seen_while_the_body_is_in_a_transaction():
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time: the body's own transaction carries it")
    task = make_task(Status.STARTED)

    with transaction.atomic():
        progress.Reporter(task.pk, 1).report("seen")
        assert beside(lambda: stored(task)) == {"message": "seen"}


def test_a_message_goes_through_while_the_bodys_transaction_is_broken():
    task = make_task(Status.STARTED)

    with transaction.atomic(), within(10):
        transaction.set_rollback(True)
        if connection.vendor != "sqlite":
            progress.Reporter(task.pk, 1).report("through")

    if connection.vendor != "sqlite":
        assert stored(task) == {"message": "through"}


@pytest.mark.parametrize("how", ["cancel", "rescue", "next attempt", "finish"])
def test_an_attempt_that_was_given_up_on_says_nothing_p3(how):
    task = make_task(Status.STARTED)
    reporter = progress.Reporter(task.pk, 1)
    if how == "cancel":
        lifecycle.cancel(task)
    elif how == "finish":
        lifecycle.finish(task.pk, 1)
    else:
        lifecycle.rescue(task.pk, 1, detail="lost")
    if how == "next attempt":
        lifecycle.promote([task.pk], site="s")
        lifecycle.claim(task.pk, 2, worker_id=None, pid=1)
    before = TaskLog.objects.values().get()

    reporter.report("zombie")

    assert TaskLog.objects.values().get() == before


# Announced again


def test_a_status_is_announced_again_with_a_message(news):
    task = make_task()

    task.notify_status("soon", error="E")

    assert news == [(task.pk, Status.PENDING, Status.PENDING, "soon", "E")]
    assert stored(task) == {"message": "soon"}


def test_what_cannot_be_stored_is_cleaned_or_refused(news):
    task = make_task()

    task.notify_status("no\0pe", error=ValueError("E\0" + "x" * 10**6))
    with pytest.raises(InvalidCall, match="progress message"):
        task.notify_status({"percent": 5})

    (told,) = news
    assert (told.message, told.error[:3]) == ("no\ufffdpe", "E\ufffdx")
    assert len(told.error) < 10**5


def test_a_status_is_announced_again_without_a_message(news):
    task = make_task(Status.FINISHED)

    task.notify_status()

    assert news == [(task.pk, Status.FINISHED, Status.FINISHED, None, None)]
    assert TaskLog.objects.get().rev == 0


def test_a_deleted_task_is_not_announced(news):
    task = make_task()
    TaskLog.objects.all().delete()

    task.notify_status("gone")

    assert news == []


def test_a_message_in_the_callers_own_transaction_does_not_wait_for_it(news):
    with transaction.atomic():
        task = taskcontrol.enqueue("tests.tasks.nothing")
        old = make_task()
        lifecycle.cancel(old)
        with within(10):
            task.notify_status("begun")
            old.notify_status("ended")

    assert (stored(task), stored(old)) == ({"message": "begun"}, {"message": "ended"})
    assert {one.message for one in news} >= {"begun", "ended"}


def test_a_written_message_is_one_statement():
    task = make_task(Status.STARTED)
    reporter = progress.Reporter(task.pk, 1)
    reporter.report("first")

    with CaptureQueriesContext(connection) as queries:
        reporter.report("second")

    assert len(queries) == 0
    reporter.close()


def test_the_last_message_lands_though_the_body_says_no_more(report):
    task = make_task(Status.STARTED)

    for number in range(10):
        report(task, {"progress": {"count": number}})

    eventually(lambda: stored(task) == {"count": 9}, 5)
    assert TaskLog.objects.get().rev == 2


def test_a_closed_reporter_writes_no_more():
    task = make_task(Status.STARTED)
    with closing(progress.Reporter(task.pk, 1)) as reporter:
        reporter.report("first")
        reporter.report("second")
        timer = reporter._timer

    timer.join(5)

    assert not timer.is_alive()
    assert stored(task) == {"message": "first"}


def test_within_a_transaction_on_sqlite_only_the_body_writes(report):
    if connection.vendor != "sqlite":
        pytest.skip("elsewhere the second connection writes")
    task = make_task(Status.STARTED)

    with transaction.atomic():
        for number in range(3):
            report(task, f"message {number}")
        assert _timers() == []

    assert stored(task) == {"message": "message 0"}


def _timers():
    return [one for one in threading.enumerate() if isinstance(one, threading.Timer)]


def test_who_reports_waits_for_nobody_who_writes(report):
    task = make_task(Status.STARTED)
    reporter = report(task, "first")
    reporter._written_at = float("-inf")

    with reporter._writing, within(5):
        report(task, "second")
        assert stored(task) == {"message": "first"}

    eventually(lambda: stored(task) == {"message": "second"}, 5)


def test_an_error_in_the_bodys_own_transaction_is_the_bodys(report, monkeypatch):
    def fail(*_args):
        raise OperationalError("broken")

    monkeypatch.setattr(progress, "write", fail)

    with side.none(), pytest.raises(OperationalError, match="broken"):
        report(make_task(Status.STARTED), "first")


def test_a_database_that_does_not_answer_harms_no_body(report, monkeypatch, caplog):
    task, write = make_task(Status.STARTED), progress.write
    broken = iter([OperationalError("gone"), InterfaceError("gone too")])

    def fail_twice(*args):
        for error in broken:
            raise error
        write(*args)

    monkeypatch.setattr(progress, "write", fail_twice)

    for message in ("first", "second", "third"):
        report(task, message)

    eventually(lambda: stored(task) == {"message": "third"}, 5)
    assert "was not written: gone" in caplog.text
