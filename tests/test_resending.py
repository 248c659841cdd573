"""Messages that nobody claimed are sent again, a limited number of times."""

from __future__ import annotations

import pytest
from django.db import transaction

from taskcontrol import lifecycle, resending
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.resending import resend_unclaimed
from taskcontrol.status import Status
from tests.factories import make_task, make_worker, seconds_ago
from tests.test_dispatch import messages
from tests.waiting import beside, race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def sent(age=60, count=0, **columns):
    """Store a task whose last message was sent ``age`` seconds ago."""
    task = make_task(Status.QUEUED, sent_at=seconds_ago(age), sent_count=count, **columns)
    TaskLog.objects.filter(pk=task.pk).update(celery_task_id=f"0a1b2c3d-{task.pk}-1")
    return task


def row(task):
    return TaskLog.objects.get(pk=task.pk)


def test_a_message_that_nobody_claimed_is_sent_again_p1(broker):
    make_worker()
    task = sent()

    assert resend_unclaimed() == 1

    assert messages(broker) == [(task.pk, 1)]
    after = row(task)
    assert (after.status, after.attempt, after.sent_count) == (Status.QUEUED, 1, 1)
    event = TaskEvent.objects.get()
    assert (event.kind, event.attempt) == (TaskEvent.Kind.RESENT, 1)
    assert resend_unclaimed() == 0


def test_what_was_sent_too_often_for_a_lowered_limit_goes_back_p1(broker, conf):
    make_worker()
    task = sent(age=10_000, count=4)
    conf(RESEND_LIMIT=2)

    resend_unclaimed()

    assert row(task).status == Status.PENDING


@pytest.mark.parametrize(
    ("count", "age", "due"),
    [
        (0, 29, False),
        (0, 31, True),
        (1, 59, False),
        (1, 61, True),
        (4, 470, False),
        (4, 490, True),
    ],
)
def test_the_time_until_the_next_message_doubles(broker, count, age, due):
    make_worker()
    sent(age, count)

    assert resend_unclaimed() == int(due)


def test_after_the_last_message_the_task_goes_back_with_the_reason_p1(broker):
    make_worker()
    task = sent(961, count=5)

    assert resend_unclaimed() == 0

    after = row(task)
    assert (after.status, after.occupies, after.ready_lane) == (
        Status.PENDING,
        False,
        task.lane,
    )
    assert TaskEvent.objects.get().detail == "no worker claimed it after 5 messages"
    assert messages(broker) == []


@pytest.mark.parametrize("workers", ["none", "other queue", "all busy", "lost"])
def test_what_no_free_worker_could_have_claimed_is_not_sent_again(broker, workers):
    if workers == "other queue":
        make_worker(["short"])
    if workers == "all busy":
        make_task(Status.STARTED, worker=make_worker(pool_size=1))
    if workers == "lost":
        make_worker(lost_at=seconds_ago(5))
    sent(10**6)

    assert resend_unclaimed() == 0
    assert messages(broker) == []


def test_a_claimed_message_is_not_sent_again(broker):
    worker = make_worker(pool_size=5)
    make_task(Status.STARTED, worker=worker, sent_at=seconds_ago(10**6))
    make_task(Status.CANCELED, worker=worker, occupies=True, sent_at=seconds_ago(10**6))

    assert resend_unclaimed() == 0


def test_what_was_claimed_while_a_sweep_looked_is_not_sent_again(broker, monkeypatch):
    make_worker()
    task = sent()
    look = resending._overdue

    def look_slowly():
        found = look()
        lifecycle.claim(task.pk, 1, worker_id=None, pid=1)
        return found

    monkeypatch.setattr(resending, "_overdue", look_slowly)

    assert resend_unclaimed() == 0
    assert messages(broker) == []


def test_while_the_broker_is_away_nothing_is_lost_p1(broker):
    make_worker()
    task = sent()
    broker.kill()

    assert resend_unclaimed() == 0

    assert row(task).status == Status.QUEUED
    assert not TaskEvent.objects.exists()


def test_the_times_and_the_number_can_be_set(broker, conf):
    conf(RESEND_AFTER=5, RESEND_LIMIT=1)
    make_worker()
    first, second = sent(6), sent(11, count=1)

    assert resend_unclaimed() == 1

    assert (row(first).sent_count, row(second).status) == (1, Status.PENDING)


@pytest.mark.django_db(transaction=True)
def test_sweeps_at_once_send_each_message_once(broker):
    make_worker()
    tasks = [sent() for _ in range(30)]

    answers = race(*[resend_unclaimed] * 4)

    assert sum(answers) + resend_unclaimed() == len(tasks)
    assert len(messages(broker)) == len(tasks)
    assert set(TaskLog.objects.values_list("sent_count", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("count", [0, 5])
def test_a_row_that_somebody_holds_does_not_stop_the_sweep(broker, count):
    make_worker()
    held, free = sent(1000, count), sent()

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=held.pk)
        answer = beside(resend_unclaimed)

    assert answer == 1
    assert messages(broker) == [(free.pk, 1)]


def test_what_a_worker_has_claimed_is_not_sent_p3(broker):
    sent(age=3600, worker=make_worker(pool_size=9))

    assert resend_unclaimed() == 0
    assert messages(broker) == []
