"""Rows, messages and what workers hold are matched; what stands amiss twice is written down."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from django.utils import timezone

import taskcontrol
from taskcontrol import broker as courier, lifecycle
from taskcontrol.accounting import looks, places, sweep
from taskcontrol.accounting.evidence import Repair
from taskcontrol.accounting.looks import Account, account, confirmed, look
from taskcontrol.accounting.matching import match
from taskcontrol.accounting.messages import Waiting
from taskcontrol.accounting.sweep import Accountant, write_down
from taskcontrol.losses import lose
from taskcontrol.models import Incident, TaskAttempt, TaskEvent, TaskLog, Worker
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.resending import resend_unclaimed
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

Kind = Incident.Kind
LONG = 3600


@pytest.fixture(autouse=True)
def _site(broker, db):
    """Every account asks the broker, and the dispatcher has passed."""
    dispatcher_state()


def send(task, attempt=None, celery_task_id=None):
    number = task.attempt if attempt is None else attempt
    name = celery_task_id or f"{dispatcher_state().site}-{task.pk}-{number}"
    courier.publish([courier.Message(task.pk, number, "default", name, 60)])


def queued(ago=LONG, **columns):
    columns = {"sent_at": seconds_ago(ago), **columns}
    return make_task(Status.QUEUED, queued_at=seconds_ago(ago), **columns)


def started(worker, ago=LONG, **columns):
    return make_task(Status.STARTED, worker=worker, started_at=seconds_ago(ago), **columns)


def holds(worker, *attempts):
    """Let the worker give its word anew."""
    held = [[task.pk, attempt] for task, attempt in attempts]
    Worker.objects.filter(pk=worker.pk).update(held=held, last_seen_at=timezone.now())


def found():
    """Return what an account finds whose workers give their word again in between."""

    def words(_seconds):
        Worker.objects.exclude(last_seen_at__lt=seconds_ago(15)).update(
            last_seen_at=timezone.now()
        )

    return [(one.kind, one.task_id, one.repair) for one in account(words).standing]


# All is well


def test_where_all_is_well_nothing_is_found_and_one_look_is_enough():
    worker = make_worker()
    waiting, running = queued(), started(worker)
    make_task(Status.PENDING)
    make_task(Status.FINISHED)
    send(waiting)
    holds(worker, (running, 1))

    assert account(lambda _: pytest.fail("looked twice")).standing == []


def test_what_was_sent_just_now_is_not_missed_yet():
    queued(ago=5)

    assert found() == []


def test_a_claim_of_this_moment_is_not_in_the_last_word_of_its_worker():
    started(make_worker(), ago=1)

    assert found() == []


def test_a_body_that_was_told_to_stop_has_its_grace():
    worker = make_worker()
    task = make_task(Status.CANCELED, worker=worker, occupies=True)
    holds(worker, (task, 1))

    assert found() == []


def test_a_body_whose_worker_is_told_to_go_has_its_grace():
    worker = make_worker()
    task = started(worker)
    lifecycle.give_back(task.pk, 1, detail="its worker was shut down", occupied=True)
    holds(worker, (task, 1))

    assert found() == []


def test_the_message_of_what_is_just_beginning_may_not_be_acknowledged_yet():
    worker = make_worker()
    task = started(worker, ago=1)
    facts = look().facts
    taken = Waiting("default", (task.pk, 1), f"{facts.site}-{task.pk}-1", taken=True)

    assert match(replace(facts, messages=[taken])) == []


def test_after_its_end_a_process_may_be_busy_with_what_is_called_then():
    worker = make_worker()
    ended = make_task(Status.FINISHED, worker=worker)
    failed = make_task(Status.FAILED, worker=worker, error_message="ValueError: x")
    retried = make_task(Status.PENDING, attempt=1)
    TaskAttempt.objects.create(
        task=retried, attempt=1, status="Failed", ended_reason="raised", error_message="E"
    )
    holds(worker, (ended, 1), (failed, 1), (retried, 1))

    assert found() == []


def test_tasks_that_run_at_once_in_a_web_process_are_no_workers():
    make_task(Status.STARTED, started_at=seconds_ago(300), timeout=300)

    assert found() == []


# Lost


def test_a_sent_task_without_a_message_is_lost_p1():
    task = queued()

    assert found() == [(Kind.LOST, task.pk, Repair.UNSEND)]


def test_a_task_that_its_worker_claimed_as_it_was_sent_needs_no_message():
    worker = make_worker()
    task = queued(worker=worker)
    holds(worker, (task, 1))

    assert found() == []


@pytest.mark.parametrize("how", ["left_at", "lost_at", "last_seen_at"])
def test_a_claimed_task_whose_worker_is_gone_is_lost_p1(how):
    worker = make_worker(hostname="w@here")
    task = queued(worker=worker)
    holds(worker, (task, 1))
    Worker.objects.update(**{how: seconds_ago(60)})

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id, one.repair) == (Kind.LOST, task.pk, Repair.RESCUE)
    assert "message" not in one.text


def test_a_claimed_task_that_its_living_worker_does_not_hold_is_lost_and_its_own_p3():
    """That it has not begun is for its worker alone to say."""
    task = queued(worker=make_worker())

    assert found() == [(Kind.LOST, task.pk, None)]


def test_what_a_worker_holds_beyond_those_it_can_name_is_not_missed(monkeypatch):
    monkeypatch.setattr(places, "MOST_NAMED", 1)
    worker = make_worker()
    queued(worker=worker)
    holds(worker, (started(worker), 1))

    assert found() == []


def test_a_claim_of_this_moment_as_it_was_sent_is_not_missed_yet():
    queued(ago=5, worker=make_worker(left_at=seconds_ago(1)))

    assert found() == []


def test_a_sent_task_is_not_lost_while_a_worker_has_taken_its_message():
    worker, task = make_worker(), queued()
    holds(worker, (task, 1))

    assert found() == []


def test_a_message_that_is_lost_again_when_it_is_sent_again_stays_lost_p1(broker):
    task = queued()
    make_worker()
    write_down(account(lambda _: None))
    assert resend_unclaimed() == 1
    broker.flush()

    write_down(account(lambda _: None))

    row = Incident.objects.get()
    assert (row.task_id, row.count, row.resolved_at) == (task.pk, 2, None)


def test_a_started_task_that_its_worker_does_not_hold_is_lost_p1():
    worker = make_worker()
    task = started(worker)

    assert found() == [(Kind.LOST, task.pk, Repair.RESCUE)]


@pytest.mark.parametrize("how", ["left_at", "lost_at", "last_seen_at"])
def test_a_started_task_whose_worker_is_gone_is_lost_p1(how):
    """Its last word was that it held the body."""
    worker = make_worker()
    task = started(worker)
    holds(worker, (task, 1))
    Worker.objects.update(**{how: seconds_ago(60)})

    assert found() == [(Kind.LOST, task.pk, Repair.RESCUE)]


def test_the_old_word_of_a_worker_confirms_nothing():
    worker = make_worker()
    started(worker)

    assert account(lambda _: None).standing == []


def test_what_moves_while_one_looks_is_no_incident():
    task = queued()

    assert account(lambda _: send(task)).standing == []


def test_what_is_seen_for_the_first_time_is_no_incident_yet():
    task = queued()

    assert [one.task_id for one in account(lambda _: queued()).standing] == [task.pk]


# Ghosts


@pytest.mark.parametrize(
    "status",
    [Status.CANCELED, Status.FINISHED, Status.FAILED, Status.PENDING, Status.PAUSED],
)
def test_what_is_left_in_the_broker_of_a_task_that_was_sent_is_no_ghost(status):
    """A cancel or a pause takes no message away: it is dropped when it comes."""
    send(make_task(status, attempt=1))

    assert found() == []


def test_a_cancel_of_what_was_sent_leaves_nothing_to_tell():
    task = queued(ago=1)
    send(task)

    assert taskcontrol.cancel(task)

    assert found() == []


def test_what_is_left_of_an_earlier_attempt_is_no_ghost():
    task = queued(ago=1, attempt=2)
    send(task)
    send(task, attempt=1)

    assert found() == []


@pytest.mark.parametrize("status", [Status.CANCELED, Status.QUEUED, Status.PENDING])
@pytest.mark.parametrize("attempt", [0, 2])
def test_a_message_for_an_attempt_that_never_was_is_a_ghost_p3(status, attempt):
    task = make_task(status, attempt=1)
    if status == Status.QUEUED:
        send(task)
    send(task, attempt=attempt)

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id, one.attempt) == (Kind.GHOST, task.pk, attempt)
    assert (one.repair, len(one.messages)) == (Repair.REMOVE, 1)


def test_a_message_that_the_dispatcher_did_not_name_is_a_ghost_p3():
    task = make_task(Status.CANCELED)
    send(task)
    send(task, celery_task_id="made-by-hand")

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id) == (Kind.GHOST, task.pk)
    assert [message.celery_task_id for message in one.messages] == ["made-by-hand"]


def test_a_message_that_waits_for_an_attempt_which_runs_is_a_ghost_p3():
    worker = make_worker()
    task = started(worker, ago=1)
    send(task)

    assert found() == [(Kind.GHOST, task.pk, Repair.REMOVE)]


def test_a_message_for_a_task_that_does_not_exist_is_a_ghost():
    send(TaskLog(pk=999, attempt=1))

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id) == (Kind.GHOST, 999)
    assert "does not exist" in one.text


def test_messages_that_cannot_be_read_are_one_ghost_per_queue(broker):
    with broker.client() as client:
        client.lpush("default", b"x", b"y")

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id, len(one.messages)) == (Kind.GHOST, 0, 2)
    assert "2 messages in the queue default cannot be read" in one.text


def test_messages_of_another_site_are_told_and_never_removed():
    send(TaskLog(pk=5, attempt=1), celery_task_id="0badc0de-5-1")

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id, one.repair) == (Kind.GHOST, 0, None)
    assert "another site (0badc0de)" in one.text


# Doubles


def test_two_messages_for_one_attempt_are_a_double_and_one_is_too_many_p3():
    task = queued(ago=1)
    send(task)
    send(task)

    (one,) = account(lambda _: None).standing
    assert (one.kind, one.task_id, len(one.messages)) == (Kind.DOUBLE, task.pk, 1)


def test_two_workers_that_hold_one_attempt_are_a_double_p3():
    first, second = make_worker(), make_worker()
    task = started(first)
    holds(first, (task, 1))
    holds(second, (task, 1))

    assert found() == [(Kind.DOUBLE, task.pk, None)]


def test_two_living_attempts_of_one_task_are_a_double_and_the_old_one_a_zombie_p3():
    old, new = make_worker(), make_worker()
    task = started(new, attempt=2)
    TaskAttempt.objects.create(task=task, attempt=1, status="Failed", ended_reason="lost")
    holds(old, (task, 1))
    holds(new, (task, 2))

    assert {kind for kind, _, _ in found()} == {Kind.DOUBLE, Kind.ZOMBIE}


# Zombies


def test_a_body_that_was_given_up_and_still_runs_is_a_zombie_p3():
    worker = make_worker()
    task = started(worker)
    lose(task, "worker w")
    holds(worker, (task, 1))

    assert found() == [(Kind.ZOMBIE, task.pk, Repair.STOP)]


def test_a_body_of_a_task_that_was_deleted_is_a_zombie():
    worker = make_worker()
    holds(worker, (TaskLog(pk=999), 1))

    assert found() == [(Kind.ZOMBIE, 999, Repair.STOP)]


def test_a_body_that_does_not_go_after_its_grace_is_a_zombie_p6():
    worker = make_worker()
    columns = {"ended_at": seconds_ago(LONG), "cancel_requested_at": seconds_ago(LONG)}
    task = make_task(Status.CANCELED, worker=worker, occupies=True, **columns)
    holds(worker, (task, 1))

    assert found() == [(Kind.ZOMBIE, task.pk, Repair.STOP)]


def test_a_place_that_nobody_fills_is_a_zombie_p4():
    worker = make_worker()
    task = make_task(
        Status.CANCELED, worker=worker, occupies=True, started_at=seconds_ago(LONG)
    )

    assert found() == [(Kind.ZOMBIE, task.pk, Repair.RESCUE)]


@pytest.mark.parametrize("again", [False, True], ids=["started", "canceled, retried"])
def test_what_ran_at_once_in_a_process_that_is_gone_is_seen_p1(again):
    task = make_task(Status.STARTED, started_at=seconds_ago(LONG), timeout=300)
    if again:
        lifecycle.cancel(task)
        lifecycle.retry_by_hand(task.pk, Status.CANCELED)

    kind = Kind.ZOMBIE if again else Kind.LOST
    assert found() == [(kind, task.pk, Repair.RESCUE)]


# When the broker does not tell


def test_without_the_broker_no_message_is_missed(broker):
    queued()
    broker.kill()

    seen = look()
    assert (seen.findings, seen.broker_answered) == ([], False)
    assert seen.facts.unread


# What is written down


def test_what_stands_is_written_down_once_and_over_when_a_sweep_has_mended_it_p11():
    task = queued()
    make_worker()
    for _ in range(2):
        write_down(account(lambda _: None))
    row = Incident.objects.get()
    assert (row.kind, row.task_id, row.attempt, row.count) == (Kind.LOST, task.pk, 1, 2)
    assert row.resolved_at is None
    assert "sent again" in row.repair

    assert resend_unclaimed() == 1
    write_down(account(lambda _: None))

    row.refresh_from_db()
    assert row.resolved_at is not None
    assert row.repair == "sent again: nobody claimed its message"
    assert TaskEvent.objects.filter(kind=TaskEvent.Kind.RESENT).count() == 1


def test_a_rescue_ends_the_incident_of_a_lost_body():
    started(make_worker(last_seen_at=seconds_ago(60)))
    write_down(account(lambda _: None))
    assert Incident.objects.get().resolved_at is None

    rescue_lost_tasks()
    write_down(account(lambda _: None))

    assert Incident.objects.get().repair.startswith("rescued: its process was lost")


def test_nothing_is_over_because_the_broker_did_not_answer(broker):
    queued()
    write_down(account(lambda _: None))
    broker.kill()

    write_down(account(lambda _: None))

    assert Incident.objects.get().resolved_at is None


def test_a_look_of_long_ago_ends_nothing_that_was_seen_since():
    """Who looked may have been frozen before it could write down what it had seen."""
    before = Account([], look())
    queued()
    write_down(account(lambda _: None))

    write_down(before)

    assert Incident.objects.get().resolved_at is None


def test_what_is_still_seen_is_not_over_though_it_is_not_confirmed():
    queued()
    write_down(account(lambda _: None))

    write_down(Account([], look()))

    assert Incident.objects.get().resolved_at is None


def test_what_the_referee_wrote_is_not_ended_by_an_account():
    Incident.objects.create(kind=Kind.ILLEGAL)

    write_down(account(lambda _: None))

    assert Incident.objects.get().resolved_at is None


# The sweep


def test_the_sweep_needs_two_looks_and_waits_for_nothing(monkeypatch):
    queued()
    accountant = Accountant()

    accountant.run()
    assert not Incident.objects.exists()
    accountant.run()
    assert not Incident.objects.exists(), "the second look comes later"
    monkeypatch.setattr(accountant, "_go_on_at", 0)
    accountant.run()

    assert Incident.objects.get().kind == Kind.LOST


def test_one_worker_of_all_accounts_at_a_time(monkeypatch):
    seen = []
    monkeypatch.setattr(sweep, "look", lambda: seen.append(1) or look())

    for _ in range(3):
        Accountant().run()

    assert len(seen) == 1


def test_an_account_where_all_is_well_costs_a_handful_of_statements(
    django_assert_max_num_queries,
):
    worker = make_worker()
    tasks = [started(worker) for _ in range(20)]
    holds(worker, *[(task, 1) for task in tasks])
    accountant = Accountant()

    with django_assert_max_num_queries(8):
        accountant.run()

    assert not Incident.objects.exists()


def test_what_was_found_is_confirmed_by_identity_and_not_by_its_words():
    task = queued()
    first = look()
    TaskLog.objects.filter(pk=task.pk).update(queued_at=seconds_ago(2 * LONG))

    assert [one.task_id for one in confirmed(first, look()).standing] == [task.pk]
    lifecycle.unsend([(task.pk, 1)], detail="x")
    assert confirmed(first, look()).standing == []


def test_the_numbers_of_a_look_are_bounded(monkeypatch, conf):
    conf(SWEEP_PAGE=3)
    for _ in range(5):
        queued()

    assert len(look().findings) == 3
    monkeypatch.setattr(looks, "MOST_ROWS", 4)
    assert len(look().facts.rows) == 4
    assert json.dumps([one.text for one in look().findings])
