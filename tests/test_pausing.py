"""Pausing whole queues and types: who may, what the dispatcher then promotes, the intervals."""

from __future__ import annotations

from datetime import timedelta

import pytest

from taskcontrol import dialect
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import InvalidCall, NotPermitted
from taskcontrol.models import QueueState, TaskType, WaitInterval
from taskcontrol.pausing import is_paused, pause_all, resume_all
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_user, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

#: What a scope is and with which permission it is paused.
SCOPES = {
    "queue": (lambda: QueueState.objects.create(name="long"), "control_queue", "long"),
    "type": (make_type, "change_tasktype", "tests.tasks.nothing"),
}


@pytest.fixture(params=SCOPES)
def scope(request):
    """A queue, then a type."""
    return SCOPES[request.param][0]()


def permission_for(scope) -> str:
    return SCOPES["type" if isinstance(scope, TaskType) else "queue"][1]


def intervals() -> list[tuple]:
    rows = WaitInterval.objects.order_by("id")
    return [(row.scope, row.key, row.reason, row.to_at is None) for row in rows]


def test_pausing_says_who_when_and_why_and_opens_an_interval(scope):
    user = make_user("ann", permission_for(scope))

    pause_all(scope, user=user, reason="full")

    scope.refresh_from_db()
    assert (scope.paused_by, scope.paused_reason, scope.paused_until) == (
        user,
        "full",
        None,
    )
    assert is_paused(scope, dialect.now("default"))
    kind = "type" if isinstance(scope, TaskType) else "queue"
    assert intervals() == [(kind, SCOPES[kind][2], "full", True)]
    assert WaitInterval.objects.get().actor == user


def test_resuming_forgets_the_pause_and_ends_the_interval(scope):
    pause_all(scope)

    assert resume_all(scope) is True
    assert resume_all(scope) is False

    scope.refresh_from_db()
    assert (scope.paused_at, scope.paused_by, scope.paused_reason) == (None, None, "")
    assert not is_paused(scope, dialect.now("default"))
    assert [is_open for *_, is_open in intervals()] == [False]


def test_pausing_again_replaces_reason_and_end(scope):
    later = dialect.now("default") + timedelta(hours=1)
    pause_all(scope, reason="first")

    pause_all(scope, reason="second", until=later)

    scope.refresh_from_db()
    assert (scope.paused_reason, scope.paused_until) == ("second", later)
    first, second = WaitInterval.objects.order_by("id")
    assert first.to_at is not None
    assert second.to_at == later


def test_a_pause_ends_by_itself(scope):
    later = dialect.now("default") + timedelta(hours=1)
    pause_all(scope, until=later)
    scope.refresh_from_db()

    assert is_paused(scope, later - timedelta(seconds=1))
    assert not is_paused(scope, later)


def test_a_pause_until_the_past_is_refused(scope):
    with pytest.raises(InvalidCall, match="that is over"):
        pause_all(scope, until=dialect.now("default") - timedelta(seconds=1))

    assert intervals() == []


def test_without_the_permission_nothing_changes(scope):
    user = make_user("eve")

    for act in (pause_all, resume_all):
        with pytest.raises(NotPermitted, match=permission_for(scope)):
            act(scope, user=user)

    scope.refresh_from_db()
    assert scope.paused_at is None


def test_the_dispatcher_promotes_nothing_of_a_paused_scope(scope, broker):
    make_worker()
    task = make_task(queue="long")
    pause_all(scope)

    assert dispatch_pending() == 0
    resume_all(scope)
    assert dispatch_pending() == 1

    task.refresh_from_db()
    assert task.status == Status.QUEUED
