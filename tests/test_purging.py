"""A purge cancels what waits in one queue, and nothing else."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.exceptions import NotPermitted
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.purging import newest_pending, purge_as_task, purge_queue
from taskcontrol.status import Status
from tests.factories import make_task, make_user, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def test_what_waits_is_canceled_with_who_and_why():
    user = make_user("purger", "control_queue")
    waiting = [make_task(queue="long"), make_task(queue="long", run_at=seconds_ago(-60))]
    others = [
        make_task(Status.QUEUED, queue="long"),
        make_task(Status.STARTED, queue="long"),
        make_task(Status.PAUSED, queue="long"),
        make_task(queue="short"),
    ]

    assert purge_queue("long", "wrong import", user=user) == 2

    for task in waiting:
        task.refresh_from_db()
        assert (task.status, task.canceled_by) == (Status.CANCELED, user)
        assert task.ended_reason == "wrong import"
        event = TaskEvent.objects.get(task=task)
        assert (event.actor, event.detail, event.old) == (user, "wrong import", "Pending")
    for task in others:
        assert TaskLog.objects.get(pk=task.pk).status == task.status
    assert purge_queue("long") == 0


def test_it_goes_page_by_page_and_spares_what_comes_later(conf):
    conf(SWEEP_PAGE=2)
    for _ in range(5):
        make_task(queue="long")
    up_to = newest_pending("long")
    late = make_task(queue="long")

    assert purge_queue("long", up_to=up_to) == 5

    assert list(TaskLog.objects.filter(status=Status.PENDING)) == [late]


def test_without_the_permission_nothing_is_purged():
    task = make_task(queue="long")

    with pytest.raises(NotPermitted, match="may not purge the queue 'long'"):
        purge_queue("long", user=make_user("viewer", "view_queuestate"))

    task.refresh_from_db()
    assert task.status == Status.PENDING


def as_task(user):
    return taskcontrol.enqueue(
        purge_as_task,
        queue="short",
        arguments={"of": "long", "reason": "gone", "up_to": newest_pending("long")},
        created_by=user,
        now=True,
    )


def test_as_a_task_it_tells_how_far_it_is():
    for _ in range(3):
        make_task(queue="long")

    task = as_task(make_user("purger", "control_queue"))

    task.refresh_from_db()
    assert (task.status, task.result) == (Status.FINISHED, 3)
    assert (task.progress["count"], task.progress["total"]) == (3, 3)
    assert not TaskLog.objects.filter(queue="long", status=Status.PENDING).exists()


def test_as_a_task_it_asks_again_whether_its_creator_may():
    make_task(queue="long")

    with pytest.raises(NotPermitted, match="may not purge"):
        as_task(make_user("dismissed"))

    assert TaskLog.objects.filter(queue="long", status=Status.PENDING).exists()
