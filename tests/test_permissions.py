"""Who may do what to a task, asked in one place for every door."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, User

import taskcontrol
from taskcontrol import permissions
from taskcontrol.exceptions import NotPermitted
from taskcontrol.models import TaskBatch, TaskLog, TaskType
from taskcontrol.permissions import CANCEL, PRIORITIZE, RETRY, SENSITIVE, VIEW, may
from tests.factories import make_task, make_type, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

ALL = (VIEW, CANCEL, RETRY, PRIORITIZE, SENSITIVE)
#: What the owner may do without any permission, by the rights that the type gives.
OWNER = {
    (None, None): {VIEW, CANCEL},
    (True, True): {VIEW, CANCEL, RETRY},
    (False, True): {VIEW, RETRY},
    (True, False): {VIEW, CANCEL},
    (False, False): {VIEW},
}


@pytest.mark.parametrize("rights", OWNER, ids=str)
def test_an_owner_may_see_the_task_and_what_its_type_allows_p8(rights):
    owner = make_user("ann")
    task = make_task(created_by=owner)
    if rights != (None, None):
        make_type(task.method, owner_may_cancel=rights[0], owner_may_retry=rights[1])

    assert {one for one in ALL if may(owner, one, task)} == OWNER[rights]


def test_others_may_nothing_p8():
    task = make_task(created_by=make_user("ann"))

    for user in (make_user("bob"), AnonymousUser()):
        assert not any(may(user, one, task) for one in ALL)


def test_nobodys_task_belongs_to_nobody_p8():
    task = make_task()

    for user in (make_user("bob"), AnonymousUser()):
        assert not any(may(user, one, task) for one in ALL)


@pytest.mark.parametrize("permission", ALL)
def test_a_permission_allows_one_thing_for_every_task(permission):
    user = make_user("bob", permission.partition(".")[2])
    task = make_task(created_by=make_user("ann"))

    assert {one for one in ALL if may(user, one, task)} == {permission}


def test_a_superuser_may_everything_and_an_inactive_one_nothing():
    task = make_task()
    boss = User.objects.create_superuser("boss")
    assert all(may(boss, one, task) for one in ALL)

    boss.is_active = False

    assert not any(may(boss, one, task) for one in ALL)


def test_a_deactivated_owner_may_nothing_p8():
    ann = make_user("ann")
    task = make_task(created_by=ann)
    ann.is_active = False

    assert not any(may(ann, one, task) for one in ALL)
    assert set(permissions.visible_to(ann)) == set()
    with pytest.raises(NotPermitted, match="ann may not cancel batch"):
        permissions.allowed_of_batch(
            ann, CANCEL, TaskBatch(pk="b", created_by=ann), TaskLog.objects.all(), "cancel"
        )


@pytest.mark.parametrize(
    ("verb", "status", "permission", "right"),
    [
        (taskcontrol.cancel, "Pending", "cancel_tasklog", "owner_may_cancel"),
        (taskcontrol.retry, "Failed", "retry_tasklog", "owner_may_retry"),
        (taskcontrol.pause, "Pending", "prioritize_tasklog", None),
        (taskcontrol.resume, "Paused", "prioritize_tasklog", None),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_the_rooms_ask_whoever_comes_in_by_which_door_p8(verb, status, permission, right):
    ann, bob = make_user("ann"), make_user("bob", permission)
    task = make_task(status, created_by=ann)
    for user in (make_user("eve"), *([] if right else [ann])):
        with pytest.raises(NotPermitted, match=permission):
            verb(task, user=user)
    if right:
        make_type(task.method, **{right: False})
        with pytest.raises(NotPermitted, match=permission):
            verb(task, user=ann)
        TaskType.objects.update(**{right: True})
        verb(task, user=ann)
        task = make_task(status, created_by=ann)
    assert TaskLog.objects.get(pk=task.pk).status == status

    verb(task, user=bob)

    assert TaskLog.objects.get(pk=task.pk).status != status


def test_nobody_given_means_the_system_which_may():
    permissions.require(None, CANCEL, make_task(), "cancel")


def test_a_refusal_says_who_what_and_which_permission():
    user, task = make_user("bob"), make_task()

    with pytest.raises(NotPermitted, match=f"bob may not cancel task {task.pk}") as refused:
        permissions.require(user, CANCEL, task, "cancel")

    assert refused.value.permission == CANCEL
    assert "'taskcontrol.cancel_tasklog' is missing" in str(refused.value)
    with pytest.raises(NotPermitted, match="AnonymousUser may not"):
        permissions.require(AnonymousUser(), CANCEL, task, "cancel")


def test_one_sees_the_own_tasks_or_all_with_the_permission_p8():
    ann, bob, eve = make_user("ann"), make_user("bob"), make_user("eve", "view_tasklog")
    own, nobodys = make_task(created_by=ann), make_task()

    assert set(permissions.visible_to(ann)) == {own}
    assert set(permissions.visible_to(bob)) == set()
    assert set(permissions.visible_to(AnonymousUser())) == set()
    assert set(permissions.visible_to(eve)) == {own, nobodys}
