"""Putting a waiting task to the front: it goes first, and it is recorded who wanted that."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import InvalidTransition, NotPermitted
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.reordering import move_to_front
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_user, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.mark.usefixtures("broker")
def test_who_was_moved_last_goes_first_whatever_the_priorities_p5():
    make_worker(pool_size=1)
    make_type()
    make_type("tests.tasks.add", priority=9)
    urgent = make_task(method="tests.tasks.add")
    at_front = make_task(at_front=True, position=0)
    first, second = make_task(), make_task()

    move_to_front(first)
    move_to_front(second.pk)

    order = []
    for _ in range(4):
        dispatch_pending()
        (task,) = TaskLog.objects.filter(status=Status.QUEUED)
        order.append(task.pk)
        taskcontrol.cancel(task)
    assert order == [second.pk, first.pk, at_front.pk, urgent.pk]


def test_it_is_recorded_by_whom_and_told_to_the_pages():
    ann = make_user("ann", "prioritize_tasklog")
    task = make_task()

    moved = move_to_front(task, user=ann)

    event = TaskEvent.objects.get(task=task.pk)
    assert (event.kind, event.actor) == ("reordered", ann)
    assert moved.rev == 1
    assert moved.status == Status.PENDING


def test_a_paused_task_goes_first_once_it_is_resumed():
    task = make_task(Status.PAUSED)

    assert move_to_front(task).at_front
    assert TaskLog.objects.get(pk=task.pk).status == Status.PAUSED


@pytest.mark.parametrize("status", set(Status) - {Status.PENDING, Status.PAUSED})
def test_what_does_not_wait_in_line_is_refused(status):
    with pytest.raises(InvalidTransition, match="put to the front"):
        move_to_front(make_task(status))


def test_without_the_permission_it_is_refused():
    task = make_task()
    owner = make_user()
    TaskLog.objects.filter(pk=task.pk).update(created_by=owner)

    with pytest.raises(NotPermitted, match="prioritize_tasklog"):
        move_to_front(task.pk, user=owner)
    assert not TaskLog.objects.get(pk=task.pk).at_front
