"""Batches end when their members have, hold the rest back and call back once, whoever dies."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import lifecycle, settling
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.models import TaskBatch, TaskEvent, TaskLog
from taskcontrol.settling import settle_batches
from taskcontrol.status import TERMINAL, Status
from tests import tasks
from tests.factories import make_batch, make_task, make_user, make_worker, seconds_ago
from tests.servers.environment import site_environment
from tests.test_lifecycle import statements
from tests.waiting import beside, eventually, race, race_over

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

EVENTS = ("success", "failure", "completion")
WAITING = sorted(set(Status) - TERMINAL)


@pytest.fixture(autouse=True)
def from_the_start(monkeypatch):
    """Let each test begin its round with the oldest batch."""
    monkeypatch.setattr(settling, "_round", settling.Round())


def batch(**options) -> str:
    """Make a batch that calls back for everything that it can."""
    given = {f"on_{event}": {"method": tasks.nothing, "event": event} for event in EVENTS}
    return taskcontrol.create_batch("b", **{**given, **options})


def member(status=Status.PENDING, batch_id="b", **columns):
    TaskBatch.objects.filter(pk=batch_id).update(open_since=seconds_ago(60), ended_at=None)
    return make_task(status, batch_id=batch_id, **columns)


def called() -> list[str]:
    """Return the callbacks that were inserted, by their event."""
    rows = TaskLog.objects.filter(batch_id=None, event__in=EVENTS)
    return sorted(rows.values_list("event", flat=True))


def is_over(batch_id="b") -> bool:
    row = TaskBatch.objects.get(pk=batch_id)
    assert (row.ended_at is None) or (row.open_since is None)
    return row.ended_at is not None


def status_of(task) -> str:
    return TaskLog.objects.values_list("status", flat=True).get(pk=task.pk)


# The end


def test_a_batch_ends_when_its_last_member_has_ended():
    batch()
    member(Status.FINISHED)
    last = member(Status.STARTED)
    assert settle_batches() == 0
    assert not is_over()

    assert lifecycle.finish(last.pk, 1)

    assert settle_batches() == 1
    assert is_over()
    assert settle_batches() == 0


@pytest.mark.parametrize("status", WAITING)
def test_it_does_not_end_before(status):
    batch()
    member(Status.FINISHED)
    member(status)

    assert settle_batches() == 0
    assert not is_over()
    assert called() == []


def test_a_failure_whose_retry_is_due_is_no_end():
    batch()
    member(Status.FAILED, retry_at=seconds_ago(-60), max_retries=1)

    assert settle_batches() == 0
    assert called() == []


def test_a_batch_without_tasks_ends_when_none_were_to_come():
    batch()
    assert settle_batches() == 0

    taskcontrol.bulk_enqueue([], batch_id="b")

    assert settle_batches() == 1
    assert called() == ["completion", "success"]


@pytest.mark.parametrize(
    ("columns", "outcome"),
    [
        ({"status": Status.FINISHED}, "success"),
        ({"status": Status.FAILED}, "failure"),
        ({"status": Status.CANCELED}, "failure"),
    ],
)
def test_the_callbacks_are_those_of_the_outcome(columns, outcome):
    batch()
    member(Status.FINISHED)
    member(**columns)

    settle_batches()

    assert called() == sorted(["completion", outcome])


def test_a_failed_member_that_was_pruned_is_not_forgotten():
    batch()
    member(Status.FINISHED)
    TaskBatch.objects.update(pruned={"Failed": 1, "Finished": 3})

    settle_batches()

    assert called() == ["completion", "failure"]


def test_a_callback_is_an_ordinary_task_of_the_creator_of_the_batch(broker):
    user = make_user("ann")
    taskcontrol.create_batch(
        "b", created_by=user, on_completion={"method": tasks.give_back, "value": 7}
    )
    taskcontrol.bulk_enqueue([], batch_id="b")
    settle_batches()

    (task,) = TaskLog.objects.all()
    make_worker()
    assert (task.created_by, task.event, task.batch_id) == (user, "b", None)
    assert task.arguments == {"value": 7}
    assert dispatch_pending() == 1


def test_a_batch_ends_while_the_broker_is_away(broker):
    batch()
    member(Status.FINISHED)
    make_worker()
    make_task()
    broker.stop()
    with pytest.raises(BrokerUnavailable):
        dispatch_pending()
    assert is_over()
    member(Status.FINISHED)
    with pytest.raises(BrokerUnavailable):
        dispatch_pending()
    assert is_over()


def test_what_a_batch_makes_at_its_end_overtakes_nothing_that_waited_for_the_broker(broker):
    """Also where it is more urgent: in every pass it comes after what waits by then."""
    batch(on_completion={"method": tasks.give_back, "value": 7, "priority": 9})
    make_worker(pool_size=1)
    waiting = make_task()
    broker.stop()
    with pytest.raises(BrokerUnavailable):
        dispatch_pending()
    broker.start()
    member(Status.FINISHED)

    assert eventually(dispatch_pending) == 1

    assert is_over()
    assert status_of(waiting) == Status.QUEUED


def test_each_callback_is_inserted_once_for_all_time():
    batch()
    failed = member(Status.FAILED)
    settle_batches()
    assert called() == ["completion", "failure"]

    for status in (Status.FAILED, Status.FINISHED, Status.FINISHED):
        taskcontrol.retry(failed)
        assert not is_over()
        assert settle_batches() == 0
        TaskLog.objects.filter(pk=failed.pk).update(
            status=status, ready_lane=None, ended_at=seconds_ago(0)
        )
        assert settle_batches() == 1
        TaskLog.objects.filter(pk=failed.pk).update(status=Status.FAILED)

    assert called() == ["completion", "failure", "success"]


def test_a_batch_that_ended_goes_on_when_a_task_is_added():
    batch()
    member(Status.FINISHED)
    settle_batches()

    added = taskcontrol.enqueue(tasks.nothing, batch_id="b")

    assert not is_over()
    assert settle_batches() == 0
    taskcontrol.cancel(added)
    assert settle_batches() == 1


@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.django_db(transaction=True)
def test_a_caller_who_holds_a_batch_stops_no_sweep():
    make_batch("held", open_since=seconds_ago(90))
    make_batch("free")

    with transaction.atomic():
        TaskBatch.objects.filter(pk="held").update(title="mine")
        assert beside(settle_batches) == 1

    assert is_over("free")
    assert not is_over("held")
    assert settle_batches() == 1


def test_a_batch_that_cannot_be_ended_is_told_and_stops_no_other(caplog):
    make_batch("bad", callbacks={"completion": {"columns": {"nonsense": 1}}})
    make_batch("good")

    assert settle_batches() == 1

    assert is_over("good")
    assert "Batch bad could not be looked after; it is tried again." in caplog.text


def test_of_many_open_batches_each_is_looked_at_in_turn(conf):
    conf(SWEEP_PAGE=2)
    for number in range(7):
        make_batch(f"going-{number}", open_since=seconds_ago(60 - number // 3))
        member(Status.STARTED, batch_id=f"going-{number}")
    make_batch("last", open_since=seconds_ago(1))

    ended = [settle_batches() for _ in range(8)]

    assert ended == [0, 0, 0, 1, 0, 0, 0, 0]
    assert is_over("last")


def test_what_a_batch_costs_does_not_grow_with_its_members():
    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            settle_batches()
        return len(statements(queries))

    batch()
    member(Status.STARTED)
    first = cost()
    for _ in range(40):
        member(Status.FINISHED)
        member(Status.PENDING)

    assert cost() == first <= 3


# Holding the rest back


@pytest.fixture
def held():
    """A batch that holds the rest after a failure, with one task of each status."""
    batch(hold_on_failure=True)
    rows = {status: member(status) for status in (*WAITING, Status.FAILED)}
    rows["retrying"] = member(Status.FAILED, retry_at=seconds_ago(-60), max_retries=1)
    return rows


def test_a_failure_holds_back_what_waits_and_what_was_sent(held):
    settle_batches()

    assert {key: status_of(row) for key, row in held.items()} == {
        Status.PENDING: Status.PAUSED,
        Status.PAUSED: Status.PAUSED,
        Status.QUEUED: Status.PAUSED,
        Status.STARTED: Status.STARTED,
        Status.FAILED: Status.FAILED,
        "retrying": Status.FAILED,
    }
    events = TaskEvent.objects.filter(kind=TaskEvent.Kind.PAUSED)
    why = f"its batch is held back, since task {held[Status.FAILED].pk} failed"
    assert set(events.values_list("detail", flat=True)) == {why}
    assert not is_over()


def test_what_was_taken_back_begins_once_when_it_goes_on(held):
    sent = held[Status.QUEUED]
    settle_batches()

    taskcontrol.resume_batch("b")

    assert lifecycle.claim(sent.pk, 1, worker_id=None, pid=1) is None
    sent.refresh_from_db()
    assert (sent.status, sent.occupies, sent.celery_task_id) == ("Pending", False, None)


def test_an_automatic_retry_is_not_yet_a_failure():
    batch(hold_on_failure=True)
    member(Status.FAILED, retry_at=seconds_ago(-60), max_retries=1)
    waiting = member()

    settle_batches()

    assert status_of(waiting) == Status.PENDING


def test_by_default_the_rest_goes_on():
    batch()
    member(Status.FAILED)
    waiting = member()

    settle_batches()

    assert status_of(waiting) == Status.PENDING


def test_from_the_failure_on_no_pass_sends_what_is_held(broker):
    make_worker(pool_size=10)
    batch(hold_on_failure=True)
    rest = [member() for _ in range(5)]
    failing = member(Status.STARTED)
    other = make_task()
    lifecycle.fail(failing.pk, 1, error="no")

    assert dispatch_pending() == 1

    assert status_of(other) == Status.QUEUED
    assert {status_of(row) for row in rest} == {Status.PAUSED}
    assert not TaskEvent.objects.filter(new=Status.QUEUED).exists()


def test_a_task_that_is_added_to_a_held_batch_is_held_too(held, broker):
    settle_batches()
    make_worker()

    added = taskcontrol.enqueue(tasks.nothing, batch_id="b")
    dispatch_pending()

    assert status_of(added) == Status.PAUSED


def test_a_large_batch_is_held_back_page_by_page(conf, monkeypatch):
    conf(SWEEP_PAGE=2)
    monkeypatch.setattr(settling, "HOLD_PAGES", 2)
    batch(hold_on_failure=True)
    for _ in range(9):
        member()
    member(Status.FAILED)

    paused = []
    for _ in range(4):
        settle_batches()
        paused.append(TaskLog.objects.filter(status=Status.PAUSED).count())

    assert paused == [4, 8, 9, 9]


def test_a_large_batch_that_is_held_stops_nobody_behind_it_for_long(
    conf, monkeypatch, broker
):
    conf(SWEEP_PAGE=5, DISPATCH_PAGE=5)
    monkeypatch.setattr(settling, "HOLD_PAGES", 2)
    make_worker(pool_size=3)
    batch(hold_on_failure=True)
    member(Status.FAILED)
    for _ in range(30):
        member()
    other = make_task()

    passes = 0
    while status_of(other) == Status.PENDING and passes < 10:
        dispatch_pending()
        passes += 1

    assert status_of(other) == Status.QUEUED
    assert passes <= 4


def test_a_batch_that_was_resumed_goes_on_in_spite_of_the_failure(held):
    settle_batches()

    assert taskcontrol.resume_batch("b") == 3

    settle_batches()
    assert status_of(held[Status.PENDING]) == Status.PENDING


# Races


@pytest.mark.django_db(transaction=True)
def test_many_who_end_a_batch_at_once_insert_each_callback_once():
    for number in range(8):
        key = taskcontrol.create_batch(
            f"b{number}",
            on_success={"method": tasks.nothing, "event": "success"},
            on_completion={"method": tasks.nothing, "event": "completion"},
        )
        taskcontrol.bulk_enqueue([], batch_id=key)

    answers = race(*[settle_batches] * 4)

    assert sum(one for one in answers if isinstance(one, int)) == 8, answers
    assert called() == ["completion"] * 8 + ["success"] * 8


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["enqueue", "bulk_enqueue", "retry"])
def test_a_task_that_joins_while_its_batch_ends_keeps_the_batch_open_p9(how):
    keys = [f"b{number}" for number in range(12)]
    for key in keys:
        make_batch(key)
        make_task(Status.FAILED, batch_id=key)

    def join(key):
        if how == "enqueue":
            return taskcontrol.enqueue(tasks.nothing, batch_id=key)
        if how == "bulk_enqueue":
            return taskcontrol.bulk_enqueue([{"method": tasks.nothing}], batch_id=key)
        return taskcontrol.retry(TaskLog.objects.get(batch_id=key))

    answers = race_over(keys, join, lambda _key: settle_batches())

    assert not any(isinstance(one, Exception) for one, _ in answers), answers
    for key in keys:
        row = TaskBatch.objects.get(pk=key)
        assert row.ended_at is None
        assert row.open_since is not None
    assert settle_batches() == 0


@pytest.mark.django_db(transaction=True)
def test_a_member_that_ends_while_others_look_ends_the_batch_once():
    keys = [f"b{number}" for number in range(12)]
    for key in keys:
        taskcontrol.create_batch(
            key, on_completion={"method": tasks.nothing, "event": "completion"}
        )
        TaskBatch.objects.filter(pk=key).update(open_since=seconds_ago(60))
        make_task(Status.STARTED, batch_id=key)

    def end(key):
        task = TaskLog.objects.get(batch_id=key)
        return lifecycle.finish(task.pk, 1)

    answers = race_over(keys, end, lambda _: settle_batches(), lambda _: settle_batches())
    settle_batches()

    assert all(one[0] is True for one in answers), answers
    assert called() == ["completion"] * 12
    assert not TaskBatch.objects.filter(ended_at=None).exists()


# Crashes

#: Sends itself SIGKILL before the first statement that begins so.
SETTLE_AND_DIE = """
import os, signal, sys
import django; django.setup()
from django.db import connection
from taskcontrol.settling import settle_batches

def die(execute, sql, params, many, context):
    if sql.startswith(sys.argv[1]) and sys.argv[2] in sql:
        os.kill(os.getpid(), signal.SIGKILL)
    return execute(sql, params, many, context)

with connection.execute_wrapper(die):
    settle_batches()
"""


def settle_and_die(verb: str, table: str) -> None:
    command = [sys.executable, "-c", SETTLE_AND_DIE, verb, table]
    died = subprocess.run(command, env=site_environment(), check=False)
    assert died.returncode == -signal.SIGKILL


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "step", [("INSERT", "tasklog"), ("UPDATE", "taskbatch")], ids=lambda step: step[0]
)
def test_a_settler_that_is_killed_between_two_steps_is_as_none_at_all(step):
    batch()
    member(Status.FINISHED)

    settle_and_die(*step)

    assert not is_over()
    assert called() == []
    assert settle_batches() == 1
    assert called() == ["completion", "success"]


@pytest.mark.django_db(transaction=True)
def test_a_settler_that_is_killed_while_it_holds_back_is_followed_by_the_next(held):
    settle_and_die("INSERT", "taskevent")
    assert status_of(held[Status.PENDING]) == Status.PENDING
    assert status_of(held[Status.QUEUED]) == Status.QUEUED

    settle_batches()

    assert status_of(held[Status.PENDING]) == Status.PAUSED
    assert status_of(held[Status.QUEUED]) == Status.PAUSED
