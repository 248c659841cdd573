"""P3: messages that come twice, late or from a stranger start nothing; zombies change nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app

import taskcontrol
from taskcontrol import broker as courier
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.forcing import may_be_forced
from taskcontrol.lookout import UNHELD_FOR
from taskcontrol.models import TaskAttempt, TaskLog, Worker as WorkerRow
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import (
    all_ended,
    ended,
    free,
    has_status,
    is_alive,
    kinds,
    row,
)
from tests.servers.worker import QUICK
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

RESCUE = QUICK["WORKER_LOST_AFTER"] + 5 + 5


def message(task, attempt=1, celery_task_id=None, queue="default"):
    """Return the message of an attempt, as the dispatcher or a forger would send it."""
    return courier.Message(
        task.pk, attempt, queue, celery_task_id or f"forged-{attempt}", 60
    )


def settle():
    """Wait until every message sent before was handled: a later one has run."""
    all_ended([taskcontrol.enqueue(tasks.nothing) for _ in range(4)], 30)


def test_ten_copies_of_every_message_run_one_body_p3(start_workers, record):
    start_workers({}, {})
    taskcontrol.toggle_dispatcher(enable=False)
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(20)]
    taskcontrol.toggle_dispatcher(enable=True)
    eventually(lambda: not TaskLog.objects.pending().exists(), 30)

    for _ in range(10):
        courier.publish([message(task, attempt=row(task).attempt) for task in rows])

    assert {now.status for now in all_ended(rows)} == {Status.FINISHED}
    settle()
    assert set(record.starts().values()) == {1}
    assert len(record.lines("started")) == 20


def test_copies_of_a_running_task_start_nothing_p3(worker, record):
    task = taskcontrol.enqueue(tasks.recorded, seconds=2)
    now = has_status(task, Status.STARTED)

    courier.publish([message(task, celery_task_id=now.celery_task_id)] * 10)

    now = ended(task)
    settle()
    assert (now.status, now.attempt) == (Status.FINISHED, 1)
    assert record.starts() == {(task.pk, 1): 1}


def test_refused_copies_take_the_bodies_from_nobody_p3_p4_p6(start_worker, record):
    worker = start_worker(concurrency=3, conf={"CANCEL_GRACE": 600})
    short = taskcontrol.enqueue(tasks.recorded, seconds=8)
    stubborn = taskcontrol.enqueue(tasks.swallow_everything, seconds=60)
    pid = eventually(lambda: record.lines("started", task=stubborn.pk), 20)[0]["pid"]
    sent = [has_status(task, Status.STARTED).celery_task_id for task in (short, stubborn)]

    for task, name in zip((short, stubborn), sent, strict=True):
        courier.publish([message(task, celery_task_id=name)] * 2)

    log = worker.process.log
    eventually(
        lambda: [log.read_text().count(f"[{name}] succeeded") for name in sent] == [2, 2]
    )
    # Meanwhile the keeper looks several times for who runs them.
    always(lambda: kinds(short) == kinds(stubborn) == [], 1.5 * UNHELD_FOR)
    now = ended(short)
    assert (now.status, now.attempt) == (Status.FINISHED, 1)
    assert (row(stubborn).status, row(stubborn).attempt) == (Status.STARTED, 1)
    taskcontrol.cancel(stubborn)
    eventually(lambda: may_be_forced(row(stubborn)), 5)
    assert is_alive(pid)
    taskcontrol.force_stop(stubborn)
    free(stubborn, 10)
    assert not is_alive(pid)
    assert kinds(stubborn) == ["canceled", "told", "forcing", "forced", "gone"]
    assert record.starts() == {(short.pk, 1): 1, (stubborn.pk, 1): 1}


def test_stale_messages_of_a_retried_task_start_nothing_p3(worker, record):
    task = ended(taskcontrol.enqueue(tasks.fail))
    taskcontrol.toggle_dispatcher(enable=False)
    taskcontrol.retry(task)

    courier.publish([message(task, attempt) for attempt in (0, 1, 2, 3)] * 3)
    taskcontrol.toggle_dispatcher(enable=True)

    now = ended(task)
    settle()
    assert (now.status, now.attempt, now.retry_count) == (Status.FAILED, 2, 1)
    assert TaskAttempt.objects.filter(task=task).count() == 1


@pytest.mark.parametrize("state", ["ended", "paused", "canceled", "pending"])
def test_a_forged_message_moves_no_task_that_was_not_sent_p3(worker, record, state):
    if state == "ended":
        task = ended(taskcontrol.enqueue(tasks.nothing))
    elif state == "pending":
        task = taskcontrol.enqueue(tasks.recorded, run_at=timedelta(hours=1))
    else:
        task = taskcontrol.enqueue(tasks.recorded, paused=True)
    if state == "canceled":
        taskcontrol.cancel(task)
    before = row(task)

    courier.publish([message(task, attempt) for attempt in range(4)] * 2)

    settle()
    now = row(task)
    assert (now.status, now.attempt, now.rev) == (before.status, before.attempt, before.rev)
    assert record.lines() == []


@pytest.mark.parametrize(
    "args", [(), (1,), (1, 2, 3), ("x", "y"), (None, None), (10**30, 1), (-1, -1)]
)
def test_nonsense_on_the_queue_harms_nobody_p3(worker, broker, args):
    for _ in range(3):
        current_app.send_task(
            courier.RUN, args, queue="default", ignore_result=True, retry=False
        )
    current_app.send_task("no.such.task", queue="default", ignore_result=True)

    settle()
    assert worker.process.running
    with broker.client() as client:
        eventually(lambda: not client.hlen("unacked"))


def test_messages_in_another_queue_are_claimed_there_once_p3(worker, record):
    worker.freeze()
    task = taskcontrol.enqueue(tasks.recorded, queue="short")
    dispatch_pending()
    courier.publish([message(task, queue="long"), message(task, queue="default")])
    worker.thaw()

    now = ended(task)

    settle()
    assert (now.status, now.queue) == (Status.FINISHED, "short")
    assert record.starts() == {(task.pk, 1): 1}


def has_a_new_life(worker, old):
    """Wait until ``worker``, which was declared lost, has a new row and runs a task there."""
    assert WorkerRow.objects.get(pk=old.pk).lost_at is not None
    again = eventually(worker.row, 15)
    assert again.pk != old.pk
    now = ended(taskcontrol.enqueue(tasks.add, left=1, queue="long"))
    assert (now.result, now.worker_id, now.attempt) == (1, again.pk, 1)


def test_a_machine_that_wakes_after_its_lease_changes_nothing_p3(start_worker, record):
    first = start_worker(["default", "long"], concurrency=1)
    task = taskcontrol.enqueue(tasks.slow_at_first, seconds=15)
    zombie = eventually(lambda: record.lines("started"))[0]["pid"]
    start_worker(["default"], concurrency=1)
    old = first.row()
    frozen = first.freeze(children=True)

    told = told_of(ended(task, RESCUE))
    for process in frozen:
        process.resume()

    assert (row(task).status, row(task).attempt) == (Status.FINISHED, 2)
    eventually(lambda: not is_alive(zombie))
    has_a_new_life(first, old)
    assert told_of(row(task)) == told
    assert set(record.starts().values()) == {1}


def test_a_child_finishes_although_its_main_process_sleeps_p3(start_worker, record):
    start_worker(["short"], concurrency=1)
    first = start_worker(["default", "long"], concurrency=1)
    task = taskcontrol.enqueue(tasks.recorded, seconds=2)
    child = eventually(lambda: record.lines("started"))[0]["pid"]
    old = first.row()
    frozen = first.freeze()

    told = told_of(ended(task, RESCUE))
    eventually(lambda: WorkerRow.objects.get(pk=old.pk).lost_at, RESCUE)
    for process in frozen:
        process.resume()

    assert (row(task).status, row(task).attempt) == (Status.FINISHED, 1)
    eventually(lambda: not is_alive(child))
    has_a_new_life(first, old)
    assert told_of(row(task)) == told


def told_of(now):
    """Return what a late end could change."""
    return (now.status, now.attempt, now.ended_at, now.worker_id, now.lost_count, now.rev)


def test_a_zombie_is_stopped_soon_after_it_wakes_p3(start_worker, record):
    first = start_worker(["default", "long"], concurrency=1)
    task = taskcontrol.enqueue(tasks.swallow_everything, seconds=30, queue="long")
    zombie = eventually(lambda: record.lines("started"))[0]["pid"]
    frozen = first.freeze(children=True)
    start_worker(["long"], concurrency=1)
    eventually(lambda: len(record.lines("started")) == 2, RESCUE)

    for process in frozen:
        process.resume()

    eventually(lambda: not is_alive(zombie), 5)
    now = row(task)
    assert (now.status, now.attempt, now.lost_count) == (Status.STARTED, 2, 1)
    always(lambda: row(task).attempt == 2, 2)
