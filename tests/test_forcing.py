"""Ending the grace of a body: only of one that was told to stop, and only by who may cancel."""

from __future__ import annotations

import pytest

from taskcontrol import forcing
from taskcontrol.exceptions import InvalidCall, NotPermitted
from taskcontrol.history import record
from taskcontrol.models import TaskEvent, TaskLog, Worker
from taskcontrol.status import TERMINAL, Status
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def stubborn(status=Status.CANCELED, **columns) -> TaskLog:
    """Return a task that was told to stop five seconds ago and has not gone."""
    columns = {"worker": make_worker(), "ended_at": seconds_ago(5), **columns}
    return make_task(status, occupies=True, **columns)


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_it_is_noted_by_whom_for_this_attempt_alone(status):
    ann = make_user("ann", "cancel_tasklog")
    task = stubborn(status, attempt=2)
    assert forcing.may_be_forced(task)
    assert not forcing.is_wanted(task)

    forcing.force_stop(task.name, user=ann)

    event = TaskEvent.objects.get()
    assert (event.task_id, event.kind, event.actor, event.attempt) == (
        task.pk,
        "forcing",
        ann,
        2,
    )
    assert forcing.is_wanted(task)
    task.attempt = 3
    assert not forcing.is_wanted(task)


@pytest.mark.parametrize(
    "columns",
    [
        {"occupies": False},
        {"ended_at": seconds_ago(-3600)},
        {"worker": None},
    ],
    ids=["gone", "only just told", "nobody holds it"],
)
def test_a_body_that_cannot_be_forced_is_refused(columns):
    task = stubborn()
    TaskLog.objects.filter(pk=task.pk).update(**columns)

    with pytest.raises(InvalidCall, match="no body that could be stopped by force"):
        forcing.force_stop(task)
    assert not TaskEvent.objects.exists()


@pytest.mark.parametrize(
    "columns",
    [{"pool": "threads"}, {"lost_at": seconds_ago(1)}, {"left_at": seconds_ago(1)}],
    ids=["threads", "lost", "left"],
)
def test_a_worker_that_cannot_kill_is_not_asked(columns):
    task = stubborn()
    Worker.objects.update(**columns)

    with pytest.raises(InvalidCall):
        forcing.force_stop(task)


@pytest.mark.parametrize("status", set(Status) - TERMINAL)
def test_what_has_not_ended_is_canceled_first(status):
    worker = make_worker()
    task = make_task(status, worker=worker)

    with pytest.raises(InvalidCall):
        forcing.force_stop(task)


def test_of_the_attempts_that_are_asked_for_those_are_named_that_somebody_wants_gone():
    task, other = stubborn(), stubborn()
    for attempt in (1, 3):
        record([TaskLog(pk=task.pk, attempt=attempt)], TaskEvent.Kind.FORCING)
    record([other], TaskEvent.Kind.TOLD)

    asked = {(task.pk, 1), (task.pk, 2), (other.pk, 1)}
    assert forcing.wanted_of(asked) == [(task.pk, 1)]
    assert forcing.wanted_of(set()) == []


def test_it_needs_what_cancel_needs():
    ann = make_user()
    task = stubborn(created_by=ann)
    make_type(owner_may_cancel=False)

    with pytest.raises(NotPermitted, match="cancel_tasklog"):
        forcing.force_stop(task, user=ann)
    assert not TaskEvent.objects.exists()
