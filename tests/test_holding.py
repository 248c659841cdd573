"""Holding one waiting task back, and letting it go on at its old place."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import InvalidTransition, NotPermitted, TaskNotFound
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, make_user, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def test_a_held_task_is_not_promoted_until_it_goes_on_at_its_old_place_p5(broker):
    make_worker(pool_size=1)
    first, second = make_task(), make_task()
    assert taskcontrol.pause(first, reason="wait for the file").status == Status.PAUSED

    dispatch_pending()
    assert TaskLog.objects.get(pk=second.pk).status == Status.QUEUED
    taskcontrol.cancel(second)
    third = make_task()
    assert taskcontrol.resume(first.name).status == Status.PENDING
    dispatch_pending()

    assert TaskLog.objects.get(pk=first.pk).status == Status.QUEUED
    assert TaskLog.objects.get(pk=third.pk).status == Status.PENDING


def test_the_delegates_do_the_same():
    task = make_task()

    assert task.pause().status == Status.PAUSED
    assert task.resume().status == Status.PENDING


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PENDING}))
def test_only_a_pending_task_is_paused(status):
    task = make_task(status)

    with pytest.raises(InvalidTransition, match="only Pending tasks can be paused") as why:
        taskcontrol.pause(task)

    assert isinstance(why.value, ValueError)
    assert TaskLog.objects.get().rev == 0


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.PAUSED}))
def test_only_a_paused_task_is_resumed(status):
    with pytest.raises(InvalidTransition, match="only Paused tasks can be resumed"):
        taskcontrol.resume(make_task(status))


def test_both_are_recorded_with_person_and_reason():
    user = make_user("ann", "prioritize_tasklog")
    task = make_task()

    taskcontrol.pause(task, user=user, reason="later")
    taskcontrol.resume(task, user=user)

    events = TaskEvent.objects.values_list("kind", "actor", "detail", "old", "new")
    assert list(events) == [
        ("paused", user.pk, "later", Status.PENDING, Status.PAUSED),
        ("resumed", user.pk, "", Status.PAUSED, Status.PENDING),
    ]


@pytest.mark.parametrize("act", [taskcontrol.pause, taskcontrol.resume])
def test_an_owner_alone_may_not_hold_a_task_p8(act):
    user = make_user("ann")
    task = make_task(created_by=user)

    with pytest.raises(NotPermitted):
        act(task, user=user)


@pytest.mark.parametrize("act", [taskcontrol.pause, taskcontrol.resume])
def test_what_was_deleted_is_not_found(act):
    task = make_task()
    TaskLog.objects.all().delete()

    with pytest.raises(TaskNotFound):
        act(task)
