"""Runs in place: after errors that pass, in the same attempt, interruptible."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F

from taskcontrol import conflicts, execution, interrupts, lifecycle, reruns
from taskcontrol.context import current_task, current_user
from taskcontrol.exceptions import Retry
from taskcontrol.execution import run_claimed
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.status import Status
from tests.factories import make_user
from tests.models import Counter
from tests.test_conflicts import caused_by, of_mariadb, of_postgresql
from tests.test_execution import made, outcome, queued, raising
from tests.waiting import beside, race

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(conflicts, "PAUSES", (0, 0, 0, 0, 0))


def failing(times, error):
    """Return a body that raises at its first runs and then says how often it ran."""
    runs = []

    def body():
        runs.append(current_task().attempt)
        if len(runs) <= times:
            raise error
        return len(runs)

    return body


DEADLOCK = caused_by(of_postgresql("40P01"))


@pytest.mark.parametrize(
    "error",
    [Retry(), DEADLOCK, of_postgresql("40001"), caused_by(of_mariadb(1205))],
    ids=repr,
)
def test_a_body_runs_again_in_place_uncounted_after_an_error_that_passes(error):
    row = outcome(failing(5, error))

    assert (row.status, row.result) == (Status.FINISHED, 6)
    assert (row.attempt, row.retry_count, row.error_message) == (1, 0, "")
    assert not TaskAttempt.objects.exists()
    for number in range(1, 6):
        assert f"is run again in place in 0 s ({number} of 5)" in row.debug_log
    assert type(error).__name__ in row.debug_log


def test_after_five_times_it_has_failed_and_the_policies_decide():
    row = outcome(failing(6, DEADLOCK), max_retries=1, retry_delay=60)

    assert (row.status, row.ended_reason) == (Status.FAILED, "run again in place 5 times")
    assert "it said 40P01" in row.error_message
    assert row.retry_at is not None
    row = outcome(failing(6, Retry()))
    assert (row.status, row.retry_at) == (Status.FAILED, None)


@pytest.mark.parametrize(
    "error", [ValueError(), Retry(0), OperationalError("gone")], ids=repr
)
def test_any_other_error_is_not_run_again_in_place(error):
    row = outcome(failing(1, error))

    assert row.status == Status.FAILED
    assert "in place" not in row.debug_log


def test_what_the_failed_run_left_open_is_rolled_back_before_the_next_p3():
    def body():
        if not hasattr(body, "ran"):
            body.ran = True
            atomic = transaction.atomic()
            atomic.__enter__()
            Counter.objects.create(name="half")
            raise DEADLOCK
        assert not connection.in_atomic_block
        return Counter.objects.count()

    assert outcome(body).result == 0


def test_every_run_is_for_the_same_user_p8():
    ann = make_user("ann")
    seen = []

    def body():
        seen.append(current_user())
        if len(seen) < 3:
            raise Retry

    outcome(body, created_by=ann)

    assert seen == [ann] * 3


def test_every_run_gets_its_arguments_as_they_were_stored():
    row = outcome(lambda: None)
    assert row.status == Status.FINISHED
    task = queued("tests.test_reruns.pop_and_fail_at_first", given={"items": [1, 2]})

    execution.run(task.pk, 1)

    assert TaskLog.objects.get(pk=task.pk).result == [2]


def pop_and_fail_at_first(items):
    first = items.pop(0)
    assert first == 1
    made["ran"] = made.get("ran", 0) + 1
    if made["ran"] == 1:
        raise Retry
    return items


def test_a_cancel_ends_a_pause_p6(monkeypatch):
    monkeypatch.setattr(conflicts, "PAUSES", (30,))
    monkeypatch.setattr(reruns, "LOOK_EVERY", 0.01)
    task = queued()
    runs = []

    def body():
        runs.append(1)
        lifecycle.cancel(TaskLog.objects.get(pk=task.pk))
        raise Retry

    made["body"] = body

    assert run_claimed(execution.claim(task.pk, 1)) is False
    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.occupies, runs) == (Status.CANCELED, False, [1])


def test_a_signal_that_came_between_two_runs_is_not_lost_p6(monkeypatch):
    """It waits while the connections are tidied up, and stops the pause."""
    before = signal.getsignal(interrupts.CANCEL)
    interrupts.install()
    real = reruns.roll_back_what_is_open

    def interrupted():
        signal.pthread_kill(threading.get_ident(), interrupts.CANCEL)
        real()

    monkeypatch.setattr(reruns, "roll_back_what_is_open", interrupted)
    try:
        row = outcome(failing(9, Retry()))
    finally:
        signal.signal(interrupts.CANCEL, before)

    assert row.ended_reason == "stopped"


def test_a_database_that_does_not_answer_ends_no_pause(monkeypatch):
    monkeypatch.setattr(conflicts, "PAUSES", (0.02,))

    def no_answer(_task):
        raise OperationalError("away")

    monkeypatch.setattr("taskcontrol.currenttask.CurrentTask.check_canceled", no_answer)

    assert outcome(failing(1, Retry())).result == 2


def test_a_plain_failure_is_raised_at_once():
    assert outcome(raising(ValueError("mine"))).error_message.endswith("ValueError: mine")


# With real connections


def in_opposite_order(first, then, met):
    """Return a body that, in its first run, deadlocks with its mirror image."""
    runs = []

    def body():
        runs.append(1)
        with transaction.atomic():
            Counter.objects.select_for_update().get(pk=first)
            if len(runs) == 1:
                met.wait(20)
            Counter.objects.filter(pk=then).update(value=F("value") + 1)
        return len(runs)

    return body


@pytest.mark.only_on("postgresql", "mysql")
def test_the_loser_of_a_real_deadlock_runs_again_and_both_finish():
    a, b = (Counter.objects.create(name=name).pk for name in ("a", "b"))
    met = threading.Barrier(2)
    made["one"], made["other"] = in_opposite_order(a, b, met), in_opposite_order(b, a, met)
    ids = [queued(given={"name": name}).pk for name in ("one", "other")]

    assert race(*[partial(execution.run, pk, 1) for pk in ids]) == [True, True]

    rows = TaskLog.objects.filter(pk__in=ids)
    assert {(row.status, row.attempt, row.retry_count) for row in rows} == {
        (Status.FINISHED, 1, 0)
    }
    assert sorted(row.result for row in rows) == [1, 2]
    assert [one.value for one in Counter.objects.all()] == [1, 1]
    (loser,) = [row for row in rows if row.result == 2]
    assert (
        "is run again in place in 0 s (1 of 5), after OperationalError" in loser.debug_log
    )


@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("options", [{}, {"atomic": True}], ids=["autocommit", "atomic"])
def test_a_real_lock_timeout_is_run_again_until_the_lock_is_free(options):
    Counter.objects.create(name="held")
    runs = []

    def body():
        runs.append(1)
        with transaction.atomic():
            Counter.objects.create(name="half")
            patience = {
                "postgresql": "SET LOCAL lock_timeout = '50ms'",
                "mysql": "SET innodb_lock_wait_timeout = 1",
            }
            with connection.cursor() as cursor:
                cursor.execute(patience[connection.vendor])
            if len(runs) == 3:
                freed.set()
                let_go.wait(10)
            Counter.objects.filter(name="held").update(value=len(runs))

    freed, let_go, holds = threading.Event(), threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Counter.objects.select_for_update().get(name="held")
            holds.set()
            freed.wait(30)
        let_go.set()

    made["body"] = body
    task = queued(options=options)

    assert race(hold, lambda: holds.wait(10) and execution.run(task.pk, 1)) == [None, True]

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.attempt, len(runs)) == (Status.FINISHED, 1, 3)
    assert Counter.objects.filter(name="half").count() == 1
    assert Counter.objects.get(name="held").value == 3


@pytest.mark.only_on("sqlite")
def test_a_locked_sqlite_file_is_waited_for_by_runs_in_place():
    begun, holds, freed = threading.Event(), threading.Event(), threading.Event()
    runs = []

    def body():
        runs.append(1)
        begun.set()
        holds.wait(10)
        if len(runs) == 3:
            freed.set()
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {20_000 if freed.is_set() else 20}")
        Counter.objects.create(name="written")

    def hold():
        begun.wait(10)
        with transaction.atomic():
            Counter.objects.create(name="held")
            holds.set()
            freed.wait(30)

    made["body"] = body
    task = queued()

    assert race(hold, lambda: execution.run(task.pk, 1)) == [None, True]

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.attempt, len(runs)) == (Status.FINISHED, 1, 3)
    assert "OperationalError: database is locked" in row.debug_log
    assert Counter.objects.filter(name="written").count() == 1


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("options", [{}, {"atomic": True}], ids=["autocommit", "atomic"])
def test_a_real_serialization_failure_is_run_again(options):
    Counter.objects.create(name="seen")
    runs = []

    def raise_it():
        Counter.objects.filter(name="seen").update(value=F("value") + 10)

    def body():
        runs.append(1)
        with transaction.atomic():
            if not options:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            value = Counter.objects.get(name="seen").value
            if len(runs) == 1:
                beside(raise_it)
            Counter.objects.filter(name="seen").update(value=value + 1)

    with repeatable_read() if options else nullcontext():
        row = outcome(body, options=options)

    assert (row.status, row.attempt, len(runs)) == (Status.FINISHED, 1, 2)
    assert "SerializationFailure" in row.debug_log or "could not serialize" in row.debug_log
    assert Counter.objects.get(name="seen").value == 11


@contextmanager
def repeatable_read():
    """Let every transaction be one at that level, as a site may set it."""
    from psycopg import IsolationLevel

    options = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = {
        **options,
        "isolation_level": IsolationLevel.REPEATABLE_READ,
    }
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["OPTIONS"] = options
