"""All slots busy with long tasks: other queues, cancel, rescue and screens go on."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.models import DispatcherState, TaskLog, Worker as WorkerRow
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import all_ended, ended, free, row
from tests.servers.worker import QUICK
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

RESCUE = QUICK["WORKER_LOST_AFTER"] + 5 + 5


@pytest.fixture
def busy(start_worker, record):
    """A worker for long tasks, whose slots are all taken; returns it and what takes them."""
    make_type("tests.tasks.nothing")
    worker = start_worker(["long"], concurrency=2)
    rows = [
        taskcontrol.enqueue(method, queue="long", arguments={"seconds": 600})
        for method in (tasks.sleep, tasks.swallow_everything)
    ]
    eventually(lambda: len(record.lines("started")) == 2, 20)
    return worker, rows


def test_a_busy_worker_dispatches_for_another_queue_promptly(busy, start_worker, record):
    waiting = [taskcontrol.enqueue(tasks.nothing, queue="long") for _ in range(20)]
    start_worker(["short"], concurrency=1, conf={"DISPATCH_INTERVAL": 600})
    ended(taskcontrol.enqueue(tasks.nothing, queue="short"))

    for _ in range(3):
        now = ended(taskcontrol.enqueue(tasks.nothing, queue="short"))
        assert (now.started_at - now.created_at).total_seconds() < 1.5

    assert {row(task).status for task in waiting} == {Status.PENDING}


def test_cancel_goes_on_when_all_slots_are_busy(busy, record):
    _, (listening, stubborn) = busy
    waiting = taskcontrol.enqueue(tasks.add, left=1, queue="long")

    taskcontrol.cancel(stubborn)

    assert ended(waiting, QUICK["CANCEL_GRACE"] + 5).result == 1
    assert row(listening).status == Status.STARTED


def test_rescue_goes_on_when_all_slots_are_busy(busy, start_worker, record):
    other = start_worker(["short"], concurrency=1)
    lost = taskcontrol.enqueue(tasks.slow_at_first, seconds=600, queue="short")
    eventually(lambda: record.lines("started", task=lost.pk))

    other.process.kill()

    eventually(lambda: row(lost).status == Status.PENDING, RESCUE)
    start_worker(["short"], concurrency=1)
    now = ended(lost)
    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)


def test_a_busy_worker_shows_that_it_lives(busy, record):
    worker, _ = busy
    before = worker.row().last_seen_at

    eventually(lambda: worker.row().last_seen_at > before, 5)

    now = worker.row()
    assert (now.consuming, now.lost_at) == (True, None)
    assert len(now.children) == 2
    passed = DispatcherState.objects.get().last_pass_at
    eventually(lambda: DispatcherState.objects.get().last_pass_at > passed, 5)


def test_a_queue_without_a_worker_waits_and_holds_up_nobody(worker, record):
    waiting = [taskcontrol.enqueue(tasks.nothing, queue="short") for _ in range(3)]
    all_ended(waiting)
    alone = TaskLog.objects.create(
        method="tests.tasks.nothing",
        job_name="alone",
        queue="nobodys",
        lane=1,
        ready_lane=1,
        priority=100,
    )

    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1

    assert row(alone).status == Status.PENDING
    taskcontrol.cancel(alone)


def test_little_is_ever_past_pending(worker, record):
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0.3) for _ in range(30)]
    active = TaskLog.objects.active()
    eventually(lambda: record.lines("ended"))

    always(lambda: active.count() <= 2, 2)

    for task in rows:
        taskcontrol.cancel(task)
    for task in rows:
        free(task)
    assert WorkerRow.objects.get(hostname=worker.hostname).lost_at is None
