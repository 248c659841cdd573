"""P1: whatever becomes of a worker, its tasks end; what left in order is not counted."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

import taskcontrol
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.models import Incident, TaskLog, Worker as WorkerRow
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import all_ended, ended, has_status, kinds, row
from tests.servers.worker import QUICK, Worker
from tests.waiting import eventually

pytestmark = pytest.mark.integration

#: Seconds until a lost worker's task runs elsewhere: the lease, a sweep, a pass.
RESCUE = QUICK["WORKER_LOST_AFTER"] + 10


def running(record, count, seconds=60):
    """Return so many tasks whose bodies run."""
    make_type("tests.tasks.slow_at_first")
    rows = [taskcontrol.enqueue(tasks.slow_at_first, seconds=seconds) for _ in range(count)]
    eventually(lambda: len(record.lines("started")) == count, 20)
    return rows


def slow_start(worker):
    """Freeze the pool of ``worker``: what it is given is not begun."""
    return worker.freeze(main=False, children=True)


def test_bodies_of_a_killed_machine_run_on_another_p1(start_worker, record):
    first = start_worker()
    rows = running(record, 2)
    second = start_worker()

    first.process.kill()

    for now in all_ended(rows, RESCUE):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)
        assert now.worker.hostname == second.hostname
    assert set(record.starts().values()) == {1}
    assert WorkerRow.objects.get(hostname=first.hostname).lost_at is not None


def test_a_worker_killed_before_the_claim_loses_nothing_p1(start_worker, record):
    first = start_worker()
    first.freeze()
    make_type("tests.tasks.recorded")
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(2)]
    assert dispatch_pending() == 2

    first.process.kill()
    start_worker()

    for now in all_ended(rows, RESCUE):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0)
    assert set(record.starts().values()) == {1}


def test_a_worker_killed_after_it_handed_the_message_on_loses_nothing_p1(
    start_worker, broker, record
):
    first = start_worker(concurrency=1)
    slow_start(first)
    task = taskcontrol.enqueue(tasks.recorded)
    has_status(task, Status.QUEUED)
    eventually(lambda: not broker.messages("default"))

    first.process.kill()
    start_worker()

    now = ended(task, RESCUE + 5)
    assert (now.status, now.lost_count) == (Status.FINISHED, 0)
    assert sum(record.starts().values()) == 1


def test_a_child_that_is_killed_is_noticed_at_once_p1(worker, record):
    task = taskcontrol.enqueue(tasks.slow_at_first, seconds=60)
    victim = eventually(lambda: record.lines("started"))[0]["pid"]

    os.kill(victim, signal.SIGKILL)

    eventually(lambda: len(record.lines("started")) == 2, 5)
    now = ended(task)
    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)
    assert kinds(task) == ["rescued"]


def test_a_child_that_is_killed_before_the_claim_costs_nothing_p1(worker, record):
    children = slow_start(worker)
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(2)]
    has_status(rows[0], Status.QUEUED)

    for child in children:
        child.kill()

    for now in all_ended(rows, RESCUE + 5):
        assert (now.status, now.lost_count) == (Status.FINISHED, 0)
    assert [line["task"] for line in record.lines("started")].count(rows[0].pk) == 1


@pytest.mark.usefixtures("start_worker")
def test_a_child_that_is_killed_at_its_birth_is_replaced_p1():
    """Celery by itself ends the worker for it."""
    newborn = Worker()
    newborn.launch()
    eventually(lambda: len(newborn.children()) == 2, 60, every=0.001)

    newborn.children()[0].kill()

    with newborn:
        eventually(lambda: len(newborn.children()) == 2)


def test_a_warm_shutdown_finishes_what_runs_and_takes_nothing_new_p1(start_worker, record):
    first = start_worker(concurrency=1)
    (body,) = running(record, 1, seconds=1.5)
    waiting = [taskcontrol.enqueue(tasks.recorded) for _ in range(5)]

    first.process.send(signal.SIGTERM)
    late = taskcontrol.enqueue(tasks.recorded)
    assert first.process.wait(30) == 0

    now = row(body)
    assert (now.status, now.attempt, now.occupies) == (Status.FINISHED, 1, False)
    gone = WorkerRow.objects.get(hostname=first.hostname)
    assert gone.left_at is not None
    assert gone.lost_at is None
    start_worker()
    for task in all_ended([*waiting, late], 30):
        assert (task.status, task.lost_count) == (Status.FINISHED, 0)
    assert set(record.starts().values()) == {1}


def test_a_cold_shutdown_gives_back_what_runs_uncounted_p1(start_worker, record):
    first = start_worker()
    rows = running(record, 2)

    first.stop_cold()

    second = start_worker()
    for now in all_ended(rows, RESCUE):
        assert (now.status, now.lost_count, now.retry_count) == (Status.FINISHED, 0, 0)
        assert (now.attempt, now.worker.hostname) == (2, second.hostname)
    assert set(record.starts().values()) == {1}
    assert WorkerRow.objects.get(hostname=first.hostname).left_at is not None
    assert not Incident.objects.exists()


def test_a_cold_shutdown_of_stubborn_bodies_is_not_counted_either_p1(start_worker, record):
    first = start_worker(concurrency=1)
    task = taskcontrol.enqueue(tasks.swallow_everything, seconds=3)
    has_status(task, Status.STARTED)
    start_worker()

    first.stop_cold()

    now = ended(task, RESCUE)
    assert (now.status, now.lost_count) == (Status.FINISHED, 0)
    first_lines, later = record.lines(task=task.pk, attempt=1), record.lines(attempt=2)
    assert not later or later[0]["at"] > first_lines[-1]["at"]


def test_a_shutdown_that_is_asked_for_twice_loses_nothing_p1(start_worker, record):
    first = start_worker()
    rows = running(record, 2)
    first.process.send(signal.SIGTERM)
    eventually(lambda: WorkerRow.objects.get(hostname=first.hostname).leaving_at)

    first.process.send(signal.SIGQUIT)
    first.process.wait(30)

    start_worker()
    for now in all_ended(rows, RESCUE):
        assert (now.status, now.lost_count) == (Status.FINISHED, 0)


def on_other_pools(start_workers, record, seconds):
    """Return workers with pools of threads and of one, and the body that each runs."""
    workers = start_workers(
        {"queues": ["short"], "pool": "threads", "concurrency": 1},
        {"queues": ["long"], "pool": "solo", "concurrency": 1},
    )
    make_type("tests.tasks.slow_at_first")
    rows = [
        taskcontrol.enqueue(tasks.slow_at_first, queue=queue, seconds=seconds)
        for queue in ("short", "long")
    ]
    eventually(lambda: len(record.lines("started")) == 2, 20)
    return workers, rows


def test_other_pools_shut_down_in_order_too_p1(start_workers, record):
    workers, rows = on_other_pools(start_workers, record, seconds=1.5)

    for worker in workers:
        worker.process.send(signal.SIGTERM)

    assert [worker.process.wait(30) for worker in workers] == [0, 0]
    for task in rows:
        now = row(task)
        assert (now.status, now.attempt, now.occupies) == (Status.FINISHED, 1, False)
        assert now.worker.left_at is not None


def test_bodies_on_other_pools_are_rescued_too_p1(start_workers, record):
    workers, rows = on_other_pools(start_workers, record, seconds=60)

    for worker in workers:
        worker.process.kill()

    start_workers({})
    for now in all_ended(rows, RESCUE):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)


def test_a_pool_whose_children_are_replaced_loses_nothing_p1(start_worker, record):
    start_worker(flags=["--max-tasks-per-child", "1"])
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(12)]

    for now in all_ended(rows, 60):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0)
    assert len({line["pid"] for line in record.lines("started")}) == len(rows)


def test_a_shutdown_that_is_told_to_all_processes_at_once_is_not_counted_p1(
    start_worker, record
):
    first = start_worker()
    rows = running(record, 2)

    for child in first.children():
        child.terminate()
    first.process.send(signal.SIGTERM)
    first.process.wait(30)

    for task in rows:
        assert (row(task).lost_count, kinds(task)) == (0, ["returned"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_task_that_is_lost_with_its_process_may_be_failed_instead(worker, record, number):
    make_type("tests.tasks.kill_itself", on_lost="fail")

    now = ended(taskcontrol.enqueue(tasks.kill_itself, number=int(number), max_retries=3))

    assert (now.status, now.attempt, now.lost_count) == (Status.FAILED, 1, 1)


def test_a_task_that_is_stopped_with_its_worker_may_be_failed_instead(start_worker, record):
    make_type("tests.tasks.slow_at_first", on_lost="fail")
    first = start_worker(concurrency=1)
    task = taskcontrol.enqueue(tasks.slow_at_first, seconds=60)
    eventually(lambda: record.lines("started"), 20)

    first.stop_cold()

    now = row(task)
    assert (now.status, now.occupies, now.lost_count) == (Status.FAILED, False, 0)
    assert now.error_message.startswith("WorkerLeft: ")


def test_a_worker_whose_workers_row_is_gone_goes_on_p1(worker):
    assert psutil.pid_exists(worker.process.pid)
    WorkerRow.objects.filter(hostname=worker.hostname).delete()

    eventually(worker.row, 10)
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1
    assert TaskLog.objects.get().worker is not None
