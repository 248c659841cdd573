"""An incident is one row, however often it is seen, until it is over."""

from __future__ import annotations

import pytest
from django.db import connection

from taskcontrol import incidents, lifecycle
from taskcontrol.ends import Outcome, write_end
from taskcontrol.losses import lose
from taskcontrol.models import Incident, TaskLog
from taskcontrol.pruning import prune_ended_tasks
from taskcontrol.status import Status
from tests.factories import make_task, make_worker, seconds_ago
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

Kind = Incident.Kind


def test_the_same_again_counts_on_in_its_row():
    incidents.report(Kind.GHOST, "a message", task_id=7, attempt=2)
    Incident.objects.update(first_at=seconds_ago(60), last_at=seconds_ago(60))
    incidents.report(Kind.GHOST, "still there", task_id=7, attempt=2, repair="none needed")
    incidents.report(Kind.GHOST, "another", task_id=7, attempt=3)

    first, other = Incident.objects.order_by("attempt")
    assert (first.count, first.found, first.repair) == (2, "still there", "none needed")
    assert first.last_at > first.first_at
    assert other.count == 1


def test_what_is_over_is_no_sign_of_trouble_and_begins_anew_when_it_comes_back():
    incidents.report(Kind.ZOMBIE, "a late end", task_id=1, attempt=1, over=True)
    assert not incidents.unresolved().exists()

    incidents.report(Kind.ZOMBIE, "it runs on", task_id=1, attempt=1)
    row = incidents.unresolved().get()
    assert row.count == 2

    assert incidents.resolve([row.pk], repair="its worker stopped it") == 1
    assert incidents.resolve([row.pk], repair="twice") == 0
    row.refresh_from_db()
    assert (row.repair, row.resolved_at is None) == ("its worker stopped it", False)


@pytest.mark.django_db(transaction=True)
def test_two_who_find_the_same_at_once_write_one_row():
    for task in range(20):
        race(*[lambda task=task: incidents.report(Kind.LOST, "gone", task_id=task)] * 2)

    assert list(Incident.objects.values_list("count", flat=True)) == [2] * 20


def test_a_trigger_may_write_one_by_its_kind_alone():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO taskcontrol_incident (kind) VALUES ('illegal')")

    row = Incident.objects.get()
    assert (row.task_id, row.count, row.key, row.found, row.resolved_at) == (
        *(0, 1, "", "", None),
    )
    assert row.first_at is not None


# Ends that come too late


#: An end rolls back what its body left open, and that is a test's own transaction too.
committed = pytest.mark.django_db(transaction=True)


def late_end(row):
    return write_end(row, Outcome(value="too late"))


@committed
def test_the_end_of_an_attempt_that_was_given_up_on_is_refused_and_written_down_p3():
    task = make_task(Status.STARTED, worker=make_worker())
    lose(task, "worker w")

    assert late_end(task) is False

    row = Incident.objects.get()
    assert (row.kind, row.task_id, row.attempt) == (Kind.ZOMBIE, task.pk, 1)
    assert row.worker_id == task.worker_id
    assert row.resolved_at is not None
    assert "the task is Pending with attempt 1" in row.found


@committed
def test_the_end_of_an_attempt_that_failed_as_lost_is_written_down_p3(conf):
    conf(LOST_LIMIT=0)
    task = make_task(Status.STARTED, worker=make_worker())
    lose(task, "worker w")

    late_end(task)

    assert Incident.objects.get().found.endswith("the task is Failed with attempt 1.")


@committed
def test_the_end_of_an_attempt_that_was_given_back_is_written_down_p3():
    """Its worker had said goodbye: nobody waited for the body any more."""
    task = make_task(Status.STARTED, worker=make_worker())
    lifecycle.give_back(task.pk, 1, detail="its worker left")

    assert late_end(task) is False

    assert Incident.objects.get().found.endswith("the task is Pending with attempt 1.")


@committed
def test_the_end_of_an_attempt_that_another_has_followed_is_written_down_p3():
    task = make_task(Status.STARTED, worker=make_worker())
    TaskLog.objects.filter(pk=task.pk).update(attempt=2)

    late_end(task)

    assert Incident.objects.get().attempt == 1


@committed
@pytest.mark.parametrize("how", ["canceled", "timed out", "ended", "given back"])
def test_an_end_that_somebody_waits_for_is_no_incident(how):
    task = make_task(Status.STARTED, worker=make_worker())
    if how == "canceled":
        lifecycle.cancel(task)
    elif how == "timed out":
        lifecycle.fail(task.pk, 1, error="TimedOut", body_gone=False)
    elif how == "ended":
        # The connection broke after the commit and before the answer.
        lifecycle.finish(task.pk, 1, result="too late")
    else:
        lifecycle.give_back(task.pk, 1, detail="its worker left", occupied=True)

    assert late_end(task) is False

    assert not Incident.objects.exists()
    assert not TaskLog.objects.get().occupies


def test_incidents_are_kept_for_a_while():
    for days in (1, 89, 91):
        incidents.report(Kind.LOST, "x", task_id=days)
        ago = seconds_ago(days * 86400)
        Incident.objects.filter(task_id=days).update(last_at=ago)

    prune_ended_tasks()

    assert sorted(Incident.objects.values_list("task_id", flat=True)) == [1, 89]
