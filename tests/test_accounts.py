"""``doctor --account`` says what does not fit together, and mends it when asked to."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError

from taskcontrol.accounting import looks
from taskcontrol.accounting.messages import read
from taskcontrol.doctor import accounts
from taskcontrol.doctor.accounts import examine_account
from taskcontrol.doctor.findings import Level
from taskcontrol.models import Incident, TaskEvent, TaskLog, Worker
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_worker, seconds_ago
from tests.test_accounting import LONG, holds, queued, send, started
from tests.test_verbs import run, run_badly

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.fixture(autouse=True)
def _site(broker, db, monkeypatch):
    """Every account asks the broker; workers give their word between two looks."""
    dispatcher_state()
    again = looks.account
    monkeypatch.setattr(accounts, "account", lambda: again(_words))


def _words(_seconds):
    for worker in Worker.objects.all():
        holds(worker, *[(TaskLog(pk=task), attempt) for task, attempt in worker.held])


def told(**options):
    return [(one.level, one.subject, one.text) for one in examine_account(**options)]


def row(task):
    return TaskLog.objects.get(pk=task.pk)


def test_where_all_fits_together_the_account_says_so():
    worker, task = make_worker(), queued()
    running = started(worker)
    send(task)
    holds(worker, (running, 1))

    assert run("doctor", "--account").splitlines() == [
        "OK    Account: 2 tasks sent or running, 1 message and 1 body: all fit together",
        "OK    Repairs: within 1 d: nothing was to be done",
    ]


def test_what_is_amiss_is_told_with_what_mends_it_and_becomes_an_incident():
    task = queued()

    status, printed = run_badly("doctor", "--account")

    assert status == 2
    assert "1 task sent or running, 0 messages and 0 bodies: 1 do not fit" in printed
    assert f"FAIL  Lost: Task {task.pk} is Queued as attempt 1" in printed
    assert (
        "By itself: it is sent again when a worker of its queue has a free slot." in printed
    )
    assert "Now: manage.py taskcontrol doctor --account --repair" in printed
    assert Incident.objects.get().task_id == task.pk
    assert row(task).status == Status.QUEUED


def test_a_script_reads_it_as_json():
    queued()

    _, printed = run_badly("doctor", "--account", "--json")

    answer = json.loads(printed)
    assert (answer["level"], len(answer["findings"])) == ("FAIL", 3)


def test_a_repair_makes_a_lost_message_anew():
    task = queued()

    assert (Level.WARN, "Lost") in [one[:2] for one in told(repair=True)]

    assert (row(task).status, row(task).occupies) == (Status.PENDING, False)
    assert told() == [
        (
            *(Level.OK, "Account"),
            "0 tasks sent or running, 0 messages and 0 bodies: all fit together",
        ),
        (
            *(Level.OK, "Repairs"),
            "within 1 d: not begun, waits again 1 and incidents that are over 1",
        ),
    ]


def test_a_repair_rescues_what_no_worker_holds():
    task = started(make_worker())

    told(repair=True)

    assert (row(task).status, row(task).lost_count) == (Status.PENDING, 1)


def test_a_repair_frees_a_place_that_nobody_fills_p4():
    task = make_task(Status.CANCELED, worker=make_worker(), occupies=True)
    TaskLog.objects.filter(pk=task.pk).update(started_at="2026-01-01T00:00Z")

    told(repair=True)

    assert (row(task).status, row(task).occupies) == (Status.CANCELED, False)


def test_a_repair_frees_a_place_that_a_dead_process_has_left_behind_p4():
    task = make_task(Status.CANCELED, occupies=True, started_at=seconds_ago(LONG))

    told(repair=True)

    assert (row(task).status, row(task).occupies) == (Status.CANCELED, False)


def test_a_repair_removes_ghosts_and_spare_copies_and_leaves_the_message_itself():
    sent = queued(ago=1)
    for task in (TaskLog(pk=999, attempt=1), sent, sent, sent):
        send(task)

    told(repair=True)

    assert [one.key for one in read(["default"]).messages] == [(sent.pk, 1)]


def test_messages_of_another_site_are_left_alone():
    send(TaskLog(pk=5, attempt=1), celery_task_id="0badc0de-5-1")

    (ghost,) = (
        one for one in examine_account(repair=True) if one.subject == "Ghost message"
    )

    assert "a broker of its own" in ghost.advice
    assert len(read(["default"]).messages) == 1


def test_a_body_that_was_given_up_is_to_be_ended_and_that_is_asked_once():
    worker = make_worker()
    holds(worker, (TaskLog(pk=999), 1))

    told()
    told(repair=True)

    event = TaskEvent.objects.get()
    assert (event.kind, event.task_id, event.attempt) == (TaskEvent.Kind.FORCING, 999, 1)


def test_a_broker_that_is_away_is_said_and_hides_nothing_else(broker):
    task = started(make_worker(), ago=LONG)
    broker.kill()

    subjects = [one[1] for one in told()]

    assert subjects == ["Account", "Messages", "Lost", "Repairs"]
    assert Incident.objects.get().task_id == task.pk


def test_what_the_referee_wrote_is_told():
    Incident.objects.create(kind=Incident.Kind.ILLEGAL)

    assert (Level.FAIL, "Referee") in [one[:2] for one in told()]


@pytest.mark.parametrize("words", [("--repair",), ("5", "--account")])
def test_options_that_do_not_go_together_are_refused(words):
    with pytest.raises(CommandError, match=r"--account"):
        run("doctor", *words)
