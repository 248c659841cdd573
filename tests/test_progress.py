"""How far a task is: taken often, written seldom, by the attempt that runs."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import lifecycle, progress
from taskcontrol.context import running
from taskcontrol.exceptions import InvalidCall
from taskcontrol.currenttask import CurrentTask
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests.factories import make_task
from tests.waiting import beside, within

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


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
    ],
    ids=str,
)
def test_a_message_that_cannot_be_shown_is_refused(message):
    with pytest.raises(InvalidCall, match="progress message"):
        progress.as_progress(message)


def test_a_long_text_is_cut():
    assert len(progress.as_progress("x" * 10**6)["message"]) == 1000


def test_outside_of_a_task_nothing_is_said():
    taskcontrol.notify_task_status("anything")


def test_the_running_attempt_says_how_far_it_is():
    task = make_task(Status.STARTED)

    with running(CurrentTask(task)) as current:
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
