"""``fencing.py``: body and end are one transaction, whatever comes between."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import IntegrityError, connection, connections, transaction

import taskcontrol
from taskcontrol import conflicts, execution, lifecycle
from taskcontrol.exceptions import Discard, Retry
from taskcontrol.execution import run_claimed
from taskcontrol.models import TaskLog
from taskcontrol.side import side_database
from taskcontrol.status import Status
from tests.models import Counter
from tests.test_conflicts import caused_by, of_postgresql
from tests.test_execution import made, outcome, queued, raising
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
    pytest.mark.only_on("postgresql", "mysql"),
]

ATOMIC = {"atomic": True}


def count():
    return Counter.objects.create(name="counted").pk


def counted():
    return Counter.objects.count()


def test_body_and_end_are_seen_at_one_moment():
    def body():
        count()
        return beside(lambda: (counted(), TaskLog.objects.get().status))

    row = outcome(body, options=ATOMIC)

    assert row.result == [0, Status.STARTED]
    assert (row.status, counted(), row.time_taken is not None) == (Status.FINISHED, 1, True)


@pytest.mark.parametrize(
    "error", [ValueError("bad"), Discard("no"), Retry(5), SystemExit(1)], ids=repr
)
def test_nothing_of_a_failed_body_stays_and_its_failure_does(error):
    def body():
        count()
        print("before it failed")  # noqa: T201 - captured
        raise error

    row = outcome(body, options=ATOMIC, max_retries=1)

    assert (row.status, counted(), row.occupies) == (Status.FAILED, 0, False)
    assert type(error).__name__ in row.error_message
    assert row.debug_log == "before it failed\n"


def test_without_it_what_was_written_stays():
    outcome(lambda: (count(), raising(ValueError())()))

    assert counted() == 1


def test_nothing_of_a_canceled_body_stays_p6():
    task = queued(options=ATOMIC)

    def body():
        count()
        beside(lambda: lifecycle.cancel(TaskLog.objects.get(pk=task.pk)))

    made["body"] = body

    assert run_claimed(execution.claim(task.pk, 1)) is False
    row = TaskLog.objects.get()
    assert (row.status, row.occupies, counted()) == (Status.CANCELED, False, 0)


def test_nothing_of_a_superseded_body_stays_p3():
    task = queued(options=ATOMIC)

    def body():
        count()
        beside(lambda: lifecycle.rescue(task.pk, 1, detail="lost"))

    made["body"] = body

    assert run_claimed(execution.claim(task.pk, 1)) is False
    row = TaskLog.objects.get()
    assert (row.status, row.attempt, counted()) == (Status.PENDING, 1, 0)


@pytest.mark.parametrize(("fails", "children"), [(True, 0), (False, 1)])
def test_what_the_body_enqueued_lives_and_dies_with_it_p2(fails, children):
    def body():
        taskcontrol.enqueue("tests.tasks.nothing")
        if fails:
            raise ValueError

    row = outcome(body, options=ATOMIC)

    assert TaskLog.objects.exclude(pk=row.pk).count() == children


def test_savepoints_work_within_as_ever():
    def body():
        count()
        with suppress(ValueError), transaction.atomic():
            count()
            raising(ValueError())()
        return counted()

    row = outcome(body, options=ATOMIC)

    assert (row.status, row.result, counted()) == (Status.FINISHED, 1, 1)


def test_a_body_that_rolls_back_by_itself_has_failed():
    def body():
        count()
        transaction.set_rollback(True)

    row = outcome(body, options=ATOMIC)

    assert (row.status, counted()) == (Status.FAILED, 0)
    assert "TransactionManagementError" in row.error_message


def test_a_body_that_leaves_a_block_open_has_failed_with_what_to_know():
    def body():
        transaction.atomic().__enter__()
        count()

    row = outcome(body, options=ATOMIC)

    assert (row.status, counted()) == (Status.FAILED, 0)
    assert "has rolled back, or left open, the transaction" in row.error_message


def test_what_it_left_open_elsewhere_fails_it_before_the_commit():
    def body():
        count()
        connections[side_database()].cursor().execute("BEGIN")

    row = outcome(body, options=ATOMIC)

    assert (row.status, counted()) == (Status.FAILED, 0)
    assert "left a transaction open in the database 'taskcontrol_side'" in row.error_message


def test_a_body_that_closes_its_connection_has_failed():
    def body():
        count()
        connection.close()

    row = outcome(body, options=ATOMIC)

    assert (row.status, counted()) == (Status.FAILED, 0)


@pytest.mark.only_on("postgresql")
def test_a_constraint_that_fails_at_the_commit_fails_the_task():
    def body():
        count()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO auth_user_groups (user_id, group_id) VALUES (987654, 987654)"
            )

    row = outcome(body, options=ATOMIC)

    assert (row.status, counted()) == (Status.FAILED, 0)
    assert IntegrityError.__name__ in row.error_message


def test_hooks_of_the_commit_run_after_it_and_harm_nothing(caplog):
    seen = []

    def body():
        transaction.on_commit(lambda: seen.append(beside(counted)))
        transaction.on_commit(raising(ValueError("too late")))
        count()

    row = outcome(body, options=ATOMIC)

    assert (row.status, seen, counted()) == (Status.FINISHED, [1], 1)
    assert "A hook of on_commit failed" in caplog.text


def test_nothing_of_a_run_that_is_repeated_in_place_stays(monkeypatch):
    monkeypatch.setattr(conflicts, "PAUSES", (0,) * 5)
    runs = []

    def body():
        count()
        runs.append(1)
        if len(runs) == 1:
            raise Retry
        if len(runs) == 2:
            raise caused_by(of_postgresql("40001"))
        return len(runs)

    row = outcome(body, options=ATOMIC)

    assert (row.status, row.result, row.attempt, counted()) == (Status.FINISHED, 3, 1, 1)


def test_progress_is_seen_before_the_commit():
    def body():
        taskcontrol.notify_task_status({"progress": {"count": 1, "total": 2}})
        return beside(lambda: TaskLog.objects.get().progress)

    row = outcome(body, options=ATOMIC)

    assert row.result == row.progress == {"count": 1, "total": 2}


def test_callbacks_come_after_the_commit():
    made["callback"] = []
    row = outcome(count, options={**ATOMIC, "on_success": f"{__name__}.called"}, heard=True)

    assert row.status == Status.FINISHED
    assert made["callback"] == [(Status.FINISHED, 1, False)]


def called(job):
    in_one = connections["default"].in_atomic_block
    made["callback"].append((job.status, beside(counted), in_one))
