"""Who may do what to a task: asked in the rooms, so that every door has the same answer."""

from __future__ import annotations

from typing import Any

from .exceptions import NotPermitted
from .models import TaskBatch, TaskLog, TaskType

VIEW = "taskcontrol.view_tasklog"
CANCEL = "taskcontrol.cancel_tasklog"
RETRY = "taskcontrol.retry_tasklog"
PRIORITIZE = "taskcontrol.prioritize_tasklog"
SENSITIVE = "taskcontrol.view_sensitive_tasklog"

#: The field of TaskType that lets the owner of a task do it without the permission.
_OWNERS_RIGHT = {CANCEL: "owner_may_cancel", RETRY: "owner_may_retry"}


def require(user: Any, permission: str, task: TaskLog, verb: str) -> None:
    """Raise NotPermitted unless ``user`` may; nobody given means the system, which may."""
    if user is not None and not may(user, permission, task):
        raise NotPermitted(user, permission, f"{verb} task {task.pk}")


def may(user: Any, permission: str, task: TaskLog) -> bool:
    """Return whether ``user`` has the permission, or as the owner of ``task`` needs none."""
    if user.has_perm(permission):
        return True
    if not _is_owner(user, task):
        return False
    if permission == VIEW:
        return True
    right = _OWNERS_RIGHT.get(permission)
    if right is None:
        return False
    allowed = (
        TaskType.objects.filter(method=task.method).values_list(right, flat=True).first()
    )
    return bool(TaskType.default_of(right) if allowed is None else allowed)


def allowed_of_batch(
    user: Any, permission: str, batch: TaskBatch, members: Any, verb: str
) -> Any:
    """Return the ``members`` of a batch that ``user`` may do this to.

    All with the permission; the creator of the batch those of his own whose type allows it.
    Raises NotPermitted for everybody else.
    """
    if user is None or user.has_perm(permission):
        return members
    if not may_to_batch(user, permission, batch):
        raise NotPermitted(user, permission, f"{verb} batch {batch.pk}")
    right = _OWNERS_RIGHT[permission]
    own = members.filter(created_by=user.pk)
    usual = TaskType.default_of(right)
    unusual = TaskType.objects.filter(**{right: not usual}).values("method")
    return own.exclude(method__in=unusual) if usual else own.filter(method__in=unusual)


def may_to_batch(user: Any, permission: str, batch: TaskBatch) -> bool:
    """Return whether ``user`` may do it to a batch, or as its creator to own tasks there."""
    if user.has_perm(permission):
        return True
    return permission in _OWNERS_RIGHT and _is_owner(user, batch)


def visible_to(user: Any) -> Any:
    """Return the tasks that ``user`` may see: all with the permission, else the own ones."""
    if user.has_perm(VIEW):
        return TaskLog.objects.all()
    if user.pk is None or not user.is_active:
        return TaskLog.objects.none()
    return TaskLog.objects.filter(created_by=user.pk)


def _is_owner(user: Any, made: TaskLog | TaskBatch) -> bool:
    """A deactivated user owns nothing, as he has no permission either."""
    return user.pk is not None and user.is_active and made.created_by_id == user.pk
