"""now=True: the task runs in the caller's process, and is logged like every other."""

from __future__ import annotations

import datetime as dt
import signal
import threading
from decimal import Decimal
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import IntegrityError, connection, connections, transaction
from django.db.utils import DatabaseError

import taskcontrol
from taskcontrol import bell, lifecycle
from taskcontrol.batches import counts
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.exceptions import InvalidCall, Retry, TransactionLeftOpen
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_user, make_worker, seconds_ago
from tests.models import Counter, Paper
from tests.test_execution import driver_without_autocommit, no_queries
from tests.test_explanation import codes
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


def tell(value=None):
    """Say everything that a body can see."""
    task = taskcontrol.current_task()
    print("a line")  # noqa: T201 - the point
    taskcontrol.notify_task_status({"progress": {"count": 1, "total": 2}})
    task.check_canceled()
    return [task.row.status, task.attempt, str(task.user), type(value).__name__]


def count_and_fail(error="ValueError"):
    """Write a row, then raise."""
    Counter.objects.create()
    if error == "database":
        Counter.objects.create(pk=Counter.objects.first().pk)
    raise ValueError("it failed")


def ask_again():
    raise Retry(0)


def cancel_itself():
    lifecycle.cancel(taskcontrol.current_task().row)
    raise ValueError("after that")


def run_another():
    inner = enqueue(tell, now=True)
    return [inner.name, taskcontrol.current_task().name]


def seconds_to_the_alarm():
    return signal.getitimer(signal.ITIMER_REAL)[0]


def spin():
    while True:
        threading.Event().wait(0.01)


@pytest.fixture(params=["alone", "in a transaction"])
def around(request):
    """The caller has a transaction open, or not."""
    if request.param == "alone":
        yield
    else:
        with transaction.atomic():
            yield


def failed():
    return TaskLog.objects.get(status=Status.FAILED)


# The road


@pytest.mark.parametrize("options", [{"now": True}, {"is_async": False}])
def test_the_row_comes_back_finished_with_all_that_a_worker_would_write(around, options):
    ann = make_user("ann")

    row = enqueue(tell, value=Decimal(1), created_by=ann, **options)

    assert (row.status, row.attempt, row.occupies, row.worker_id) == (
        Status.FINISHED,
        1,
        False,
        None,
    )
    assert row.result == ["Started", 1, "ann", "Decimal"]
    assert row.created_at <= row.queued_at <= row.started_at <= row.ended_at
    assert "a line" in row.debug_log
    assert row.progress == {"count": 1, "total": 2}
    assert row.time_taken < dt.timedelta(seconds=5)
    assert row.peak_memory_usage > 1000
    assert taskcontrol.current_task() is None


def test_every_move_is_told(news):
    row = enqueue(tasks.nothing, now=True)

    assert [(one.task_id, one.old, one.new) for one in news] == [
        (row.pk, "Pending", "Queued"),
        (row.pk, "Queued", "Started"),
        (row.pk, "Started", "Finished"),
    ]


def test_an_error_is_written_and_then_raised(around):
    with pytest.raises(ValueError, match="it failed") as caught:
        enqueue(tasks.fail, now=True, max_retries=3)

    row = failed()
    assert "ValueError: it failed" in row.error_message
    assert "tests/tasks.py" in row.error_message
    # The caller has it and decides; nothing comes again behind his back.
    assert (row.retry_at, row.occupies) == (None, False)
    assert "fail" in str(caught.traceback[-1])


def test_a_body_that_asks_for_another_attempt_asks_the_caller():
    with pytest.raises(Retry):
        enqueue(ask_again, now=True, max_retries=3)

    assert failed().retry_at is None


def test_a_task_that_was_canceled_meanwhile_comes_back_canceled():
    row = enqueue(cancel_itself, now=True)

    assert (row.status, row.occupies) == (Status.CANCELED, False)


def test_one_within_another_is_a_task_of_its_own(around):
    row = enqueue(run_another, now=True)

    inner, outer = row.result
    assert outer == row.name != inner
    assert {one.status for one in TaskLog.objects.all()} == {Status.FINISHED}


def test_arguments_that_cannot_travel_are_refused_as_always():
    with pytest.raises(InvalidCall, match="cannot be stored"):
        enqueue(tasks.give_back, value=object(), now=True)

    assert not TaskLog.objects.exists()


def test_it_needs_neither_broker_nor_worker(settings, monkeypatch):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1"
    monkeypatch.setattr(bell, "ring", lambda: None)

    assert enqueue(tasks.add, left=1, right=2, now=True).result == 3


# Who else might take it


@pytest.mark.usefixtures("broker")
def test_no_dispatcher_ever_sees_it_wait():
    make_worker(pool_size=9)
    seen = []

    def look():
        seen.append((dispatch_pending(), codes(TaskLog.objects.get())))

    enqueue(call_beside, now=True, arguments={"number": _kept(look)})

    assert seen == [(0, ["running"])]


_looks: list[Any] = []


def _kept(look):
    _looks.append(look)
    return len(_looks) - 1


def call_beside(number):
    if connection.vendor == "sqlite":
        _looks[number]()
    else:
        beside(_looks[number])


def test_a_process_that_died_over_it_leaves_a_failed_task():
    gone = make_task(Status.STARTED, started_at=seconds_ago(400), timeout=300)
    stopped = make_task(
        Status.CANCELED, occupies=True, started_at=seconds_ago(400), timeout=300
    )
    alive = make_task(Status.STARTED, started_at=seconds_ago(280), timeout=300)

    assert rescue_lost_tasks() == 2

    gone.refresh_from_db()
    assert (gone.status, gone.occupies, gone.retry_at) == (Status.FAILED, False, None)
    assert "now=True" in gone.error_message
    for row, holds in ((stopped, False), (alive, True)):
        row.refresh_from_db()
        assert row.occupies is holds


# In a transaction


def test_within_a_transaction_it_is_a_part_of_it_p2():
    with transaction.atomic():
        row = enqueue(tasks.nothing, now=True)
        assert TaskLog.objects.filter(pk=row.pk).exists()
        transaction.set_rollback(True)

    assert not TaskLog.objects.exists()


@pytest.mark.parametrize(
    ("error", "raised"), [("ValueError", ValueError), ("database", IntegrityError)]
)
def test_within_a_transaction_a_failed_body_is_undone_and_its_end_stays(error, raised):
    with transaction.atomic():
        Counter.objects.create()
        with pytest.raises(raised):
            enqueue(count_and_fail, error=error, now=True)

    assert Counter.objects.count() == 1
    assert failed().ended_at


def test_without_a_transaction_a_failed_body_keeps_what_it_wrote_as_in_a_worker():
    with pytest.raises(ValueError, match="it failed"):
        enqueue(count_and_fail, now=True)

    assert Counter.objects.count() == 1


@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("within", [False, True])
def test_atomic_undoes_a_failed_body_and_keeps_a_finished_one(within):
    with transaction.atomic() if within else pytest.MonkeyPatch.context():
        with pytest.raises(ValueError, match="it failed"):
            enqueue(count_and_fail, now=True, atomic=True)
        row = enqueue(tasks.nothing, now=True, atomic=True)

    assert row.status == Status.FINISHED
    assert not Counter.objects.exists()
    assert failed().ended_at


# What a body leaves open


@pytest.fixture
def closed_in_the_end():
    yield
    connections["default"].in_atomic_block = False
    connections["default"].close()


LEAVERS = [
    tasks.begin_past_django,
    tasks.leave_transaction_open,
    tasks.leave_autocommit_off,
]


def seen_by_others():
    return beside(TaskLog.objects.get).status


@pytest.mark.parametrize("body", LEAVERS)
def test_a_body_that_leaves_a_transaction_open_has_failed_for_everybody_p1(
    body, closed_in_the_end
):
    with pytest.raises(TransactionLeftOpen):
        enqueue(body, now=True)

    assert seen_by_others() == Status.FAILED
    assert not connection.in_atomic_block
    assert not beside(Counter.objects.exists)


def begin_and_fail():
    tasks.begin_past_django()
    raise ValueError("the true one")


def test_the_error_of_a_body_that_also_left_a_transaction_open_counts(closed_in_the_end):
    with pytest.raises(ValueError, match="the true one"):
        enqueue(begin_and_fail, now=True)

    assert seen_by_others() == Status.FAILED
    assert not beside(Counter.objects.exists)


def test_a_body_that_switches_the_autocommit_of_the_driver_off_has_finished_for_everybody_p1(
    closed_in_the_end,
):
    assert enqueue(driver_without_autocommit, now=True).status == Status.FINISHED

    assert seen_by_others() == Status.FINISHED


def leave_a_wrapper():
    connection.execute_wrappers.append(no_queries)


def test_a_wrapper_of_queries_that_a_body_leaves_is_gone(around):
    assert enqueue(leave_a_wrapper, now=True).status == Status.FINISHED

    assert no_queries not in connection.execute_wrappers


# Time limits


def test_a_body_is_ended_at_its_timeout():
    before, _ = signal.getitimer(signal.ITIMER_REAL)

    with pytest.raises(SoftTimeLimitExceeded):
        enqueue(spin, now=True, timeout=1)

    assert failed().ended_reason == "timed out"
    assert signal.getitimer(signal.ITIMER_REAL)[0] <= before


def test_the_alarm_of_somebody_else_is_kept():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left, _ = signal.setitimer(signal.ITIMER_REAL, 500)
    try:
        enqueue(tasks.nothing, now=True, timeout=100)
        assert 490 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
        assert enqueue(seconds_to_the_alarm, now=True, timeout=1000).result <= 500
        assert 490 < signal.getitimer(signal.ITIMER_REAL)[0] <= 500
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
    assert rung == [1]


def test_in_another_thread_there_is_no_time_limit_but_all_the_rest():
    name = connection.vendor
    row = beside(lambda: enqueue(tasks.give_back, value=name, now=True))

    assert row.result == name


# With the other options

ends: list[Any] = []


def at_the_end(job, exc_value=None):
    """Keep what a callback is given."""
    ends.append((job.status, exc_value))


def test_an_action_on_a_document_runs_here_too(around, monkeypatch):
    paper = Paper.objects.create(title="A")
    heard = []
    monkeypatch.setattr(
        Paper, "heard", lambda self, task, *_told: heard.append(task.status)
    )

    row = taskcontrol.enqueue_doc(paper, "submit", note="now", now=True)

    paper.refresh_from_db()
    assert (row.result, paper.state) == ("submitted A now", "submitted")
    # One at a time holds for the time of its run.
    assert taskcontrol.enqueue_doc(paper, "submit").status == Status.PENDING
    assert connection.in_atomic_block or Status.FINISHED in heard


def test_callbacks_are_called_at_its_end():
    ends.clear()

    enqueue(tasks.nothing, now=True, on_success=at_the_end)
    with pytest.raises(ValueError, match="it failed"):
        enqueue(tasks.fail, now=True, on_failure=at_the_end)

    assert [(status, str(value)) for status, value in ends] == [
        ("Finished", "None"),
        ("Failed", "it failed"),
    ]


def test_a_key_is_held_while_it_runs_and_free_afterwards(around):
    once = {"job_id": "j", "deduplicate": True}

    row = enqueue(run_once_more, now=True, **once)

    assert row.result is None
    waiting = enqueue(tasks.nothing, **once)
    assert waiting is not None
    assert enqueue(tasks.nothing, now=True, **once) is None
    assert enqueue(tasks.nothing, now=True, on_duplicate="return", **once) == waiting


def run_once_more():
    return enqueue(tasks.nothing, now=True, job_id="j", deduplicate=True)


def test_a_batch_counts_it(around):
    enqueue(tasks.nothing, now=True, batch_id="b")

    assert counts("b")["Finished"] == TaskBatch.objects.get().total == 1


# What it cannot be combined with


@pytest.mark.parametrize(
    "option",
    [
        {"paused": True},
        {"run_at": dt.timedelta(hours=1)},
        {"expires": dt.timedelta(hours=1)},
        {"after": 1},
    ],
    ids=lambda option: next(iter(option)),
)
def test_what_would_let_it_wait_is_refused(option):
    if "after" in option:
        option = {"after": make_task()}
    (name,) = option
    with pytest.raises(
        InvalidCall, match=rf"now=True runs tests\.tasks\.nothing at once: .* {name}=\."
    ):
        enqueue(tasks.nothing, now=True, **option)


def test_a_bulk_is_for_workers():
    with pytest.raises(InvalidCall, match="bulk_enqueue stores tasks for workers"):
        bulk_enqueue([{}], method=tasks.nothing, now=True)
    with pytest.raises(InvalidCall, match="bulk_enqueue stores tasks for workers"):
        bulk_enqueue([{"is_async": False}], method=tasks.nothing)
    assert not TaskLog.objects.exists()


def test_a_database_that_breaks_hides_no_error_of_the_body(monkeypatch):
    def broken(*_args, **_values):
        raise DatabaseError("gone")

    monkeypatch.setattr(lifecycle, "fail", broken)

    with pytest.raises(ValueError, match="it failed"):
        enqueue(tasks.fail, now=True)
