"""Real workers give what they promote for themselves to their own children, past the broker."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import timedelta

import psutil
import pytest
from celery import current_app
from django.db import transaction

import taskcontrol
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog, Worker
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.test_held_rows import a_long_request
from tests.integration.watching import (
    all_ended,
    ended,
    has_status,
    is_alive,
    kinds,
    row,
    story,
)
from tests.servers.worker import QUICK
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

#: Seconds until a lost worker's task runs elsewhere: the lease, a sweep, a pass.
RESCUE = QUICK["WORKER_LOST_AFTER"] + 10
METHOD = "tests.tasks.recorded"
#: What a worker says that stays until its ends are written, and one that does not.
WAITS = "the ends of 2 tasks cannot be written"
LEAVES = "This worker leaves although the ends of 2 tasks are not written"


@pytest.fixture(autouse=True)
def _short(workshop):
    make_type(METHOD, usual_seconds=0.001, declared={})


def many(count, **given):
    return [taskcontrol.enqueue(tasks.recorded, **given) for _ in range(count)]


def begun_once(record, rows):
    """Return how often each body began, of those that began more than once."""
    starts = Counter(line["task"] for line in record.lines("started"))
    assert set(starts) == {task.pk for task in rows}
    return {task: count for task, count in starts.items() if count > 1}


def test_nothing_goes_by_the_broker_that_a_workers_own_children_can_take(worker, record):
    log = worker.process.log
    told_before = log.stat().st_size
    rows = many(40)

    for now in all_ended(rows):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0)
        assert now.pid in {child.pid for child in worker.children()}
        assert now.queued_at <= now.started_at <= now.ended_at
    assert begun_once(record, rows) == {}
    assert b"taskcontrol.run[" not in log.read_bytes()[told_before:]


def test_a_short_type_that_takes_long_for_once_is_seen_to_run(worker, record):
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=60), *many(20)]

    now = has_status(rows[0], Status.STARTED)
    assert now.pid in {child.pid for child in worker.children()}
    for other in all_ended(rows[1:], 30):
        assert other.status == Status.FINISHED
    assert row(rows[0]).status == Status.STARTED
    assert begun_once(record, rows) == {}
    taskcontrol.cancel(rows[0])
    ended(rows[0])


def test_celerys_own_tasks_go_to_the_child_that_is_idle_meanwhile(worker, record):
    all_ended(many(20))
    (long,) = many(1, seconds=60)
    has_status(long, Status.STARTED)

    for number in range(4):
        assert tasks.celery_add.delay(number, 1).get(timeout=10) == number + 1

    assert row(long).status == Status.STARTED
    taskcontrol.cancel(long)
    ended(long)


def test_a_canceled_body_of_a_short_type_is_ended_and_nobody_else_p6(worker, record):
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=60), *many(20)]
    has_status(rows[0], Status.STARTED)

    assert taskcontrol.cancel(rows[0])

    assert ended(rows[0]).status == Status.CANCELED
    for now in all_ended(rows[1:]):
        assert (now.status, now.lost_count) == (Status.FINISHED, 0)


def test_of_a_killed_child_only_the_body_that_ran_is_lost_p1(worker, record):
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=2, tag="long"), *many(60)]
    victim = eventually(lambda: record.lines("started", task=rows[0].pk))[0]["pid"]

    os.kill(victim, signal.SIGKILL)

    first, *others = all_ended(rows)
    assert (first.status, first.attempt, first.lost_count) == (Status.FINISHED, 2, 1)
    assert kinds(first) == ["rescued"]
    for now in others:
        assert (now.status, now.lost_count) == (Status.FINISHED, 0)


def test_what_has_returned_is_written_while_what_came_with_it_runs_on_p1(
    start_worker, record
):
    start_worker(concurrency=1)
    all_ended(many(20))  # what its runs take is known now, so several go at once
    with transaction.atomic():
        (first,) = many(1)
        last = taskcontrol.enqueue(tasks.recorded, seconds=60)
    eventually(lambda: record.lines("started", task=last.pk))

    assert ended(first).status == Status.FINISHED
    assert row(last).status in (Status.QUEUED, Status.STARTED)
    taskcontrol.cancel(last)
    ended(last)


def test_a_worker_takes_nothing_of_a_queue_that_it_was_told_to_leave(start_worker):
    worker = start_worker(concurrency=1)
    where = [worker.hostname]
    current_app.control.cancel_consumer("default", destination=where, reply=True)
    eventually(lambda: "default" not in Worker.objects.get().queues)

    (task,) = many(1)

    always(lambda: row(task).status == Status.PENDING, 2)
    current_app.control.add_consumer("default", destination=where, reply=True)
    assert ended(task).status == Status.FINISHED


def test_a_worker_that_leaves_gives_back_what_has_not_begun_uncounted_p1(
    start_worker, record
):
    first = start_worker(concurrency=1)
    holder = taskcontrol.enqueue(tasks.sleep, seconds=2)
    eventually(lambda: record.lines("started", task=holder.pk), 20)
    rows = many(30)

    assert first.stop() == 0
    assert not TaskLog.objects.filter(status=Status.QUEUED).exists()
    start_worker()

    for now in all_ended([holder, *rows], RESCUE):
        assert (now.status, now.lost_count) == (Status.FINISHED, 0)
    assert begun_once(record, [holder, *rows]) == {}


@contextmanager
def leaving_with_held_rows(start_worker, record):
    """A worker that leaves with two bodies that have returned, whose rows somebody holds."""
    worker = start_worker(concurrency=2)
    all_ended(many(20))
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=3) for _ in range(2)]
    for task in rows:
        has_status(task, Status.STARTED)
    ids = [task.pk for task in rows]

    def hold():
        list(TaskLog.objects.select_for_update().filter(pk__in=ids).order_by("pk"))

    with a_long_request(hold):
        # Its sweeps look for the lost. Not before: what its passes promote goes by message.
        start_worker(["long"], concurrency=1)
        for task in rows:
            eventually(lambda pk=task.pk: record.lines("ended", task=pk))
            assert row(task).status == Status.STARTED
        worker.process.send(signal.SIGTERM)
        eventually(lambda: WAITS in worker.process.tail(), why=worker.process.tail)
        yield worker, rows
    assert "Traceback" not in worker.process.tail(1000), worker.process.tail(1000)


@pytest.mark.only_on("postgresql")
def test_a_worker_that_leaves_waits_for_what_keeps_its_ends_from_being_written_p1(
    start_worker, record
):
    with leaving_with_held_rows(start_worker, record) as (worker, rows):
        leaving = worker.row()
        longer = timedelta(seconds=QUICK["WORKER_LOST_AFTER"] + 2)
        eventually(lambda: worker.row().last_seen_at > leaving.last_seen_at + longer, 20)
        assert worker.process.running
    eventually(lambda: not worker.process.running, 20, why=worker.process.tail)

    for now in all_ended(rows):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0), story(
            now
        )
    assert [len(record.lines("started", task=task.pk)) for task in rows] == [1, 1]
    left = Worker.objects.get(pk=leaving.pk)
    assert (left.left_at is None, left.lost_at, left.held) == (False, None, [])


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_another_signal_ends_a_worker_that_waits_and_tells_what_it_leaves_behind_p1(
    start_worker, record, number
):
    with leaving_with_held_rows(start_worker, record) as (worker, rows):
        worker.process.send(number)
        eventually(lambda: not worker.process.running, 10, why=worker.process.tail)
        assert LEAVES in worker.process.tail(1000)
        assert {row(task).status for task in rows} == {Status.STARTED}
    start_worker(concurrency=1)

    for now in all_ended(rows, RESCUE):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 0), story(
            now
        )
        (told,) = TaskEvent.objects.filter(task=now)
        assert (told.kind, told.detail) == ("returned", "its worker left")


def test_bodies_of_a_killed_worker_end_elsewhere_p1(start_worker, record):
    first = start_worker()
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0.05) for _ in range(60)]
    eventually(lambda: len(record.lines("started")) > 5, 20)
    children = {child.pid for child in first.children()}

    first.process.kill()
    start_worker()

    for now in all_ended(rows, RESCUE + 20):
        assert now.status == Status.FINISHED, story(now)
        assert now.lost_count <= 1, story(now)
    lost = TaskAttempt.objects.filter(task__lost_count=1)
    assert {run.pid for run in lost} <= children
    # Of each child the body that ran, and those before whose ends were not written yet: as
    # the journal comes to an end, the next but one may be known to have begun.
    assert len(lost) <= 3 * len(children), [story(run.task_id) for run in lost]
    assert set(record.starts().values()) == {1}


def test_work_goes_on_while_the_broker_is_away(start_worker, broker, record):
    worker = start_worker()
    ended(many(1)[0])

    broker.stop()
    try:
        rows = many(10)
        for now in all_ended(rows, 30):
            assert now.status == Status.FINISHED
    finally:
        broker.start()
    eventually(worker.answers, 30)


def test_a_frozen_child_keeps_no_task_from_running(worker, record):
    ended(many(1)[0])
    frozen = worker.children()[0]
    frozen.suspend()
    try:
        rows = many(40)
        for now in all_ended(rows, 30):
            assert (now.status, now.lost_count, now.attempt) == (Status.FINISHED, 0, 1)
            assert now.pid != frozen.pid
    finally:
        frozen.resume()
    assert (
        begun_once(record, [*rows, *TaskLog.objects.exclude(pk__in=[r.pk for r in rows])])
        == {}
    )


def test_a_worker_that_was_frozen_begins_nothing_that_others_have_p3(start_worker, record):
    first = start_worker()
    ended(many(1)[0])
    record.clear()
    frozen = first.freeze(main=True, children=True)
    rows = many(10)
    start_worker()

    done = all_ended(rows, RESCUE)
    for process in reversed(frozen):
        process.resume()

    assert {now.status for now in done} == {Status.FINISHED}
    eventually(lambda: psutil.pid_exists(first.process.pid))
    assert begun_once(record, rows) == {}


@pytest.fixture
def copies(record):
    """What bodies have forked, and what goes when the test is over."""
    yield lambda: [line["pid"] for line in record.lines("copied")]
    for line in record.lines("copied"):
        with suppress(ProcessLookupError):
            os.kill(line["pid"], signal.SIGKILL)


def short(method, **columns):
    make_type(f"tests.tasks.{method}", usual_seconds=0.001, declared={}, **columns)


@pytest.mark.parametrize("in_c", [False, True], ids=["python forks", "c forks"])
def test_a_dead_child_is_buried_while_what_it_forked_lives_p1(
    start_worker, record, copies, in_c
):
    start_worker(concurrency=1)
    short("killed_beside_its_copy")

    task = taskcontrol.enqueue(tasks.killed_beside_its_copy, in_c=in_c)

    now = ended(task, 10)
    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)
    assert "SIGKILL" in TaskEvent.objects.get(task=task).detail
    assert is_alive(copies()[0])
    celerys = tasks.celery_add.delay(1, 2)
    assert celerys.get(timeout=10) == 3


def test_the_copy_of_a_child_that_a_body_forked_takes_no_job_p3(
    start_worker, record, copies
):
    start_worker(concurrency=1)
    short("come_back_twice")

    first = taskcontrol.enqueue(tasks.come_back_twice, seconds=2)
    (copy,) = eventually(copies)
    eventually(lambda: not is_alive(copy), 10)
    has_status(first, Status.STARTED)
    rows = many(10)

    for now in all_ended([first, *rows], 30):
        assert (now.status, now.attempt) == (Status.FINISHED, 1)
    assert begun_once(record, [first, *rows]) == {}
    assert record.lines("ended", task=first.pk)


def test_a_body_that_closes_its_childs_line_has_no_second_one_beside_it_p4(
    start_worker, record
):
    start_worker()
    short("close_all_files", concurrency_limit=1)

    task = taskcontrol.enqueue(tasks.close_all_files, seconds=60)

    first, second = eventually(lambda: record.lines("started")[1:] and record.lines(), 20)
    assert not is_alive(first["pid"])
    now = ended(task)
    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)
    assert second["pid"] == now.pid
    assert "SIGKILL" in TaskEvent.objects.get(task=task).detail


def test_large_arguments_behind_a_long_body_keep_its_worker_from_nothing_p6(
    start_worker, record
):
    start_worker(concurrency=1, flags=("-I", "tests.tightlines"))
    short("type_of")
    for _ in range(3):
        all_ended([taskcontrol.enqueue(tasks.type_of, value=0) for _ in range(20)])
    with transaction.atomic():
        for number in range(60):
            taskcontrol.enqueue(tasks.type_of, value="\U0001f600" * 16_000)
            if number % 15 == 14:
                taskcontrol.enqueue(tasks.recorded, seconds=60, tag="long")
    (started,) = eventually(lambda: record.lines("started", tag="long"), 20)

    long = has_status(started["task"], Status.STARTED, timeout=5)
    assert taskcontrol.cancel(long)

    assert ended(long).status == Status.CANCELED


def test_a_child_makes_room_for_a_new_one_after_so_many_bodies(start_worker, record):
    start_worker(concurrency=1, flags=("--max-tasks-per-child", "5"))

    rows = many(23)

    for now in all_ended(rows):
        assert (now.status, now.lost_count) == (Status.FINISHED, 0)
    runs = Counter(line["pid"] for line in record.lines("started"))
    assert max(runs.values()) == 5
    assert begun_once(record, rows) == {}


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("-I", "tests.celerywatcher"), "seen: taskcontrol.run"),
        (("-E",), "Task taskcontrol.run["),
    ],
    ids=["a receiver of signals", "events"],
)
def test_who_watches_celery_is_told_of_every_task(start_worker, flags, told):
    watched = start_worker(flags=flags)
    rows = many(5)

    assert {now.status for now in all_ended(rows)} == {Status.FINISHED}
    eventually(lambda: watched.process.tail(400).count(told) >= len(rows))
