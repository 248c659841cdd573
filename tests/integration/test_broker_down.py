"""P1 on bad days of the broker: away, frozen, restarted, emptied."""

from __future__ import annotations

from collections import Counter

import pytest

import taskcontrol
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import all_ended, ended, has_status, kinds, row
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def worker(start_worker):
    """A worker that gets everything by message; what it can do without: test_handover.py."""
    return start_worker(conf={"DECK": False})


def enqueue_many(count, **options):
    """Return the rows of so many recorded tasks."""
    batch = taskcontrol.bulk_enqueue(
        ({"method": tasks.recorded} for _ in range(count)), **options
    )
    return list(TaskLog.objects.filter(batch_id=batch))


def assert_each_ran_once(record, rows, timeout=60):
    """Every one of ``rows`` finished, and its body began once, whatever the attempt."""
    assert {now.status for now in all_ended(rows, timeout)} == {Status.FINISHED}
    begun = Counter(line["task"] for line in record.lines("started"))
    assert begun == Counter(one.pk for one in rows)


def test_what_is_enqueued_without_a_broker_runs_when_it_returns_p1(worker, broker, record):
    broker.stop()
    waiting = [taskcontrol.enqueue(tasks.recorded) for _ in range(3)]
    eventually(
        lambda: dispatcher_state().broker_error,
        why=worker.process.tail,
    )
    assert {row(task).status for task in waiting} <= {Status.PENDING, Status.QUEUED}

    broker.start()

    all_ended(waiting, timeout=15)
    assert_each_ran_once(record, waiting)
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1
    eventually(lambda: not dispatcher_state().broker_error)


def test_a_second_outage_is_survived_like_the_first_p1(worker, broker, record):
    rows = []
    for _ in range(2):
        broker.kill()
        rows.append(taskcontrol.enqueue(tasks.recorded))
        eventually(lambda: dispatcher_state().broker_error)
        broker.start()
        all_ended(rows, timeout=15)

    assert_each_ran_once(record, rows)


def test_an_outage_in_the_middle_of_a_stream_loses_nothing_p1(worker, broker, record):
    rows = enqueue_many(150)
    eventually(lambda: len(record.lines("ended")) > 20)

    broker.kill()
    broker.start()

    assert_each_ran_once(record, rows)


def test_a_frozen_broker_holds_up_no_caller_and_loses_nothing_p1(worker, broker, record):
    broker.freeze()
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(5)]
    eventually(lambda: dispatcher_state().broker_error, 20)

    broker.thaw()

    all_ended(rows, timeout=20)
    assert_each_ran_once(record, rows)


def test_what_was_queued_runs_once_after_the_broker_was_emptied_p1(worker, broker, record):
    make_type("tests.tasks.recorded")
    worker.process.freeze()
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(2)]
    assert dispatch_pending() == 2
    broker.flush()

    worker.process.thaw()

    assert_each_ran_once(record, rows)
    # The frozen worker's socket took the first message before the broker forgot the rest.
    assert ["resent"] in [kinds(one) for one in rows]
    assert {(one.attempt, one.lost_count) for one in map(row, rows)} == {(1, 0)}


def test_running_bodies_do_not_notice_a_restart_of_the_broker_p1(worker, broker, record):
    task = taskcontrol.enqueue(tasks.recorded, seconds=3)
    has_status(task, Status.STARTED)

    broker.kill()
    broker.start()

    now = ended(task)
    assert (now.status, now.attempt) == (Status.FINISHED, 1)
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1


def test_a_body_whose_end_falls_into_an_outage_is_finished_p1(worker, broker, record):
    task = taskcontrol.enqueue(tasks.recorded, seconds=1.5)
    has_status(task, Status.STARTED)

    broker.stop()

    now = ended(task)
    assert (now.status, now.attempt) == (Status.FINISHED, 1)
    broker.start()
