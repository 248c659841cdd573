"""However a body ends, its task ends readably and its worker lives on."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.conf import conf as settings
from taskcontrol.status import Status
from tests import nasty, tasks
from tests.factories import make_type
from tests.integration.watching import ended, is_alive
from tests.models import Counter
from tests.nasty import CORPUS
from tests.nastyruns import run_all, wrongs
from tests.servers.worker import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def lively(worker: Worker):
    """The worker, which must be the same process after the test and run the next task."""
    pid = worker.process.pid
    yield worker
    assert worker.process.running
    assert worker.process.pid == pid
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1


def run(method, *, timeout=30, **arguments):
    """Return the row of a task that has ended, readable and storable."""
    now = ended(taskcontrol.enqueue(method, arguments=arguments), timeout)
    now.error_message.encode()
    assert "\0" not in now.error_message
    assert len(now.error_message) <= settings.ERROR_MAX_CHARS
    assert len(now.debug_log) <= settings.DEBUG_LOG_MAX_CHARS
    return now


def test_every_nasty_end_is_told_and_costs_no_worker(start_worker, record):
    # A machine that is too busy to give a sign of life is another story.
    worker = start_worker(concurrency=6, conf={"WORKER_LOST_AFTER": 60.0})
    pid = worker.process.pid

    became = run_all(CORPUS, 60)

    assert not wrongs(became), "\n".join(wrongs(became))
    assert set(record.starts().values()) == {1}
    assert (worker.process.running, worker.process.pid) == (True, pid)
    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1


@pytest.mark.parametrize(
    ("method", "arguments", "said"),
    [
        (tasks.leave, {"status": 0}, "SystemExit: 0"),
        (tasks.run_out_of_memory, {}, "MemoryError: no more"),
        (tasks.recurse, {}, "RecursionError"),
        (tasks.fail_in_group, {}, "ValueError: one"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_raised_costs_not_even_its_child(lively, method, arguments, said):
    now = run(method, **arguments)

    assert (now.status, now.attempt, now.lost_count) == (Status.FAILED, 1, 0)
    assert said in now.error_message
    assert is_alive(now.pid)


def test_a_process_that_is_lost_costs_no_automatic_retry(lively, record):
    task = taskcontrol.enqueue(tasks.kill_itself_until, attempt=3, max_retries=1)

    now = ended(task)

    assert (now.status, now.attempt) == (Status.FINISHED, 3)
    assert (now.lost_count, now.retry_count) == (2, 0)


def test_the_neighbor_of_a_crash_goes_on(lively, record):
    neighbor = taskcontrol.enqueue(tasks.recorded, seconds=1.5)

    run(tasks.crash)

    now = ended(neighbor)
    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0)


def test_a_child_that_was_told_to_go_though_its_worker_stays_is_lost_p7(lively, record):
    task = taskcontrol.enqueue(tasks.terminate_itself_until, attempt=3)

    now = ended(task)

    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 3, 2)


def test_a_body_that_swallows_the_order_to_go_and_returns_is_finished(lively, record):
    now = run(tasks.swallow_sigterm)

    assert (now.status, now.result, now.attempt) == (Status.FINISHED, "done", 1)
    eventually(lambda: not is_alive(now.pid))  # it was told to go, and does


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (tasks.return_unstorable, {}),
        (tasks.return_megabytes, {}),
        (tasks.talk_much, {"megabytes": 5}),
        (tasks.talk_unstorably, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_kept_is_left_out_and_the_task_is_finished(
    lively, method, arguments
):
    now = run(method, **arguments)

    assert (now.status, now.result) == (Status.FINISHED, None)


@pytest.mark.parametrize(
    "method",
    [
        tasks.break_its_connection,
        tasks.close_standard_output,
        tasks.change_directory_and_locale,
        tasks.leave_a_thread,
        tasks.fork_and_leave,
    ],
    ids=lambda method: method.__name__,
)
def test_what_a_body_leaves_behind_harms_neither_its_end_nor_the_next(lively, method):
    now = run(method)

    assert (now.error_message, now.status, now.attempt) == ("", Status.FINISHED, 1)
    for _ in range(4):  # whichever child runs them
        assert ended(taskcontrol.enqueue(tasks.talk, line="next")).status == Status.FINISHED


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (tasks.begin_past_django, {"name": "open"}),
        (tasks.leave_transaction_open, {"name": "open"}),
        (tasks.leave_autocommit_off, {}),
        (tasks.break_its_transaction, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_transaction_that_a_body_left_open_fails_it_and_harms_no_neighbor(
    lively, method, arguments
):
    Counter.objects.create(name="open")

    now = run(method, **arguments)

    assert (now.status, now.attempt, now.lost_count) == (Status.FAILED, 1, 0)
    assert "TransactionLeftOpen: The body has left a transaction" in now.error_message
    assert Counter.objects.get(name="open").value == 0
    for _ in range(4):  # whichever child runs them
        assert ended(taskcontrol.enqueue(tasks.talk, line="next")).status == Status.FINISHED


def test_a_method_that_is_gone_fails_and_says_so(lively):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    type(task).objects.filter(pk=task.pk).update(method="tests.tasks.not_deployed_yet")
    taskcontrol.resume(task)

    now = ended(task)

    assert (now.status, now.ended_reason) == (Status.FAILED, "unknown method")
    assert "not_deployed_yet" in now.error_message


def test_a_frozen_child_is_not_taken_for_lost(lively, record):
    task = taskcontrol.enqueue(tasks.freeze_itself_for, seconds=4)

    now = ended(task)

    assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0)
    assert is_alive(now.pid)


@pytest.mark.parametrize("deck", [True, False], ids=["by hand", "by message"])
def test_a_process_that_has_no_memory_left_begins_no_other_task(start_worker, record, deck):
    for method in (nasty.leave_no_memory, tasks.recorded):
        make_type(
            f"{method.__module__}.{method.__name__}", usual_seconds=0.001, declared={}
        )
    worker = start_worker(concurrency=1, conf={"DECK": deck})
    before = worker.process.pid
    rows = [
        taskcontrol.enqueue(nasty.leave_no_memory if number % 5 == 0 else tasks.recorded)
        for number in range(15)
    ]

    became = [ended(task, 20) for task in rows]

    told = [now for now in became if now.method == "tests.tasks.recorded"]
    assert [(now.status, now.lost_count) for now in told] == [(Status.FINISHED, 0)] * 12
    assert (worker.process.running, worker.process.pid) == (True, before)
