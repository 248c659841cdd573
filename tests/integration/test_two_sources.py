"""P1, P3: parent and child each alive or dead, by real signals; what the row then says."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

import taskcontrol
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.models import Worker as WorkerRow
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type, seconds_ago
from tests.integration.watching import ended, has_status, is_alive, kinds, row
from tests.servers.worker import QUICK
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

LEASE = QUICK["WORKER_LOST_AFTER"]


@pytest.fixture
def home(start_worker):
    """A worker with one child."""
    return start_worker(concurrency=1)


def running(record, body=tasks.slow_at_first, seconds=60.0):
    """Return a task and the process of its body, which takes long the first time."""
    make_type(f"tests.tasks.{body.__name__}")
    task = taskcontrol.enqueue(body, seconds=seconds)
    return task, psutil.Process(eventually(lambda: record.lines("started"), 20)[0]["pid"])


def now():
    """Return the time by the clock of the record."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def test_a_silent_child_is_vouched_for_by_its_parent_p3(home, record):
    task, child = running(record, tasks.recorded, seconds=1)

    child.suspend()
    always(lambda: row(task).status == Status.STARTED, LEASE + 2)
    child.resume()

    assert (ended(task).status, row(task).attempt, kinds(task)) == (Status.FINISHED, 1, [])


def test_a_dead_child_is_told_of_by_its_parent_before_the_lease_is_over_p1(home, record):
    task, child = running(record)

    child.kill()

    after = ended(task, LEASE)
    assert (after.status, after.attempt, after.lost_count) == (Status.FINISHED, 2, 1)
    assert after.worker_id == home.row().pk, "its worker lives on, and counts as there"


@pytest.mark.parametrize("frozen", [False, True], ids=["running", "frozen"])
def test_a_child_goes_with_its_parent_and_nothing_runs_beside_the_next_attempt_p4(
    home, start_worker, record, frozen
):
    task, child = running(record)
    if frozen:
        child.suspend()

    home.process.send(signal.SIGKILL)
    home.process.wait()
    eventually(lambda: not is_alive(child.pid), 2)
    gone = now()

    start_worker()
    after = ended(task, LEASE + 10)
    assert (after.status, after.attempt, after.lost_count) == (Status.FINISHED, 2, 1)
    (again,) = record.lines("started", attempt=2)
    assert again["at"] > gone


def test_both_dead_are_missed_by_the_others_p1(home, start_worker, record):
    task, child = running(record)

    os.kill(home.process.pid, signal.SIGSTOP)  # lest it tells of its child
    child.kill()
    home.process.kill()

    start_worker()
    after = ended(task, LEASE + 10)
    assert (after.status, after.attempt, after.lost_count) == (Status.FINISHED, 2, 1)


def test_a_child_alone_with_its_message_claims_nothing_for_a_lost_worker_p3(
    home, broker, record
):
    """The parent sleeps; its child wakes with a message when others have its tasks."""
    make_type("tests.tasks.recorded")
    (child,) = home.freeze(main=False, children=True)
    task = taskcontrol.enqueue(tasks.recorded)
    has_status(task, Status.QUEUED)
    eventually(lambda: not broker.messages("default"))
    eventually(home.answers)  # a turn of its loop later the message is in the pipe
    (parent,) = home.freeze()
    lost = home.row().pk
    WorkerRow.objects.filter(pk=lost).update(last_seen_at=seconds_ago(60))
    rescue_lost_tasks()

    child.resume()
    sent_back = has_status(task, Status.PENDING)
    assert (sent_back.attempt, sent_back.lost_count) == (1, 0)
    assert record.lines() == []

    assert dispatch_pending() == 0, "nobody is there who could take it"
    parent.resume()
    after = ended(task, 20)
    assert (after.status, after.lost_count, kinds(task)) == (Status.FINISHED, 0, ["unsent"])
    assert after.worker_id != lost
    assert set(record.starts().values()) == {1}
