"""A suspended dispatcher promotes nothing, whatever is started, stopped or asked."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.models import DispatcherState, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import all_ended, ended, row
from tests.waiting import always, eventually, race

pytestmark = pytest.mark.integration


def nothing_is_promoted():
    """Whether all tasks but the ended ones are Pending."""
    return not TaskLog.objects.active().exists()


def test_nothing_is_promoted_while_suspended_and_all_afterwards(worker, record):
    taskcontrol.toggle_dispatcher(enable=False, reason="maintenance")
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(5)]
    failed = taskcontrol.enqueue(tasks.recorded, priority=10, at_front=True)

    always(nothing_is_promoted, 2.5)
    assert taskcontrol.dispatch.dispatch_pending() == 0
    assert not taskcontrol.can_dispatch_now()
    assert record.lines() == []

    taskcontrol.toggle_dispatcher(enable=True)
    all_ended([*rows, failed])
    assert set(record.starts().values()) == {1}


def test_what_is_queued_or_runs_goes_on_while_suspended(worker, record):
    make_type("tests.tasks.recorded")
    running = taskcontrol.enqueue(tasks.recorded, seconds=1.5)
    eventually(lambda: record.lines("started"))
    worker.freeze()
    queued = taskcontrol.enqueue(tasks.recorded)
    taskcontrol.dispatch.dispatch_pending()
    assert row(queued).status == Status.QUEUED

    taskcontrol.toggle_dispatcher(enable=False)
    worker.thaw()

    assert {now.status for now in all_ended([running, queued])} == {Status.FINISHED}


def test_a_lost_message_is_sent_again_while_suspended(worker, broker, record):
    make_type("tests.tasks.nothing")
    worker.freeze()
    rows = [taskcontrol.enqueue(tasks.nothing) for _ in range(2)]
    taskcontrol.dispatch.dispatch_pending()
    taskcontrol.toggle_dispatcher(enable=False)
    broker.flush()

    worker.thaw()

    assert {now.status for now in all_ended(rows, 30)} == {Status.FINISHED}


def test_retries_become_pending_and_wait_while_suspended(worker, record):
    task = taskcontrol.enqueue(tasks.fail_recorded, max_retries=1, retry_delay=0.5)
    eventually(lambda: record.lines("started"))
    taskcontrol.toggle_dispatcher(enable=False)

    eventually(lambda: row(task).status == Status.PENDING)

    always(nothing_is_promoted, 1.5)
    taskcontrol.toggle_dispatcher(enable=True)
    assert ended(task).attempt == 2


def test_it_stays_suspended_over_the_restart_of_everything(
    start_worker, start_beat, broker, record
):
    taskcontrol.toggle_dispatcher(enable=False, reason="over night")
    first = start_worker()
    task = taskcontrol.enqueue(tasks.recorded)

    first.stop()
    broker.stop()
    broker.start()
    start_beat(conf={"dispatch": 0.3, "resend": 0.3, "retry-failed": 0.3, "rescue": 0.3})
    start_worker()

    always(nothing_is_promoted, 3)
    state = DispatcherState.objects.get()
    assert (state.suspended, state.suspended_reason) == (True, "over night")
    taskcontrol.toggle_dispatcher(enable=True)
    assert ended(task).status == Status.FINISHED


def test_cancel_and_bulk_work_while_suspended_and_do_not_resume(worker, record):
    taskcontrol.toggle_dispatcher(enable=False)
    batch = taskcontrol.bulk_enqueue({"method": tasks.recorded} for _ in range(50))

    for task in TaskLog.objects.filter(batch_id=batch)[:25]:
        assert taskcontrol.cancel(task) is True

    always(nothing_is_promoted, 1.5)
    assert not taskcontrol.can_dispatch_now()
    taskcontrol.toggle_dispatcher(enable=True)
    all_ended(TaskLog.objects.filter(batch_id=batch))
    assert len(record.lines("started")) == 25


def test_two_who_toggle_at_once_agree(worker):
    race(*[lambda: taskcontrol.toggle_dispatcher(enable=False)] * 4)
    assert not taskcontrol.can_dispatch_now()

    race(*[lambda: taskcontrol.toggle_dispatcher(enable=True)] * 4)
    assert taskcontrol.can_dispatch_now()
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1
