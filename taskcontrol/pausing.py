"""Holds back all tasks of a queue or of a task type, and lets them go on."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Q

from . import dialect
from .bell import request_dispatch
from .brief import brief
from .conf import conf
from .dialect import DatabaseNow
from .exceptions import InvalidCall, NotPermitted
from .models import QueueState, TaskType, WaitInterval
from .text import clean
from .wording import moment

#: Who may pause what.
PERMISSIONS = {
    TaskType: "taskcontrol.change_tasktype",
    QueueState: "taskcontrol.control_queue",
}


def pause_all(
    scope: TaskType | QueueState,
    *,
    user: Any = None,
    reason: str = "",
    until: datetime | None = None,
) -> None:
    """Promote nothing of this queue or type until ``until``, or until it is resumed.

    What is Queued still starts and runs. Pausing again replaces reason and time. ``user``
    needs the permission, else PermissionError; without a user the system acts.
    """
    _require(user, scope, "pause")
    now = dialect.now(conf.DATABASE)
    if until is not None and until <= now:
        raise InvalidCall(f"{scope} cannot be paused until {moment(until)}: that is over.")
    reason = clean(reason, 300)
    with brief():
        _write(
            scope,
            paused_at=DatabaseNow(),
            paused_by=getattr(user, "pk", None),
            paused_until=until,
            paused_reason=reason,
        )
        _end_intervals(scope)
        kind, key = _scope_and_key(scope)
        WaitInterval.objects.create(
            scope=kind, key=key, reason=reason, actor=user, to_at=until
        )


def resume_all(scope: TaskType | QueueState, *, user: Any = None) -> bool:
    """Let the tasks of this queue or type go on; return False when it was not paused."""
    _require(user, scope, "resume")
    with brief():
        resumed = _write(
            scope,
            only=Q(paused_at__isnull=False),
            paused_at=None,
            paused_by=None,
            paused_until=None,
            paused_reason="",
        )
        _end_intervals(scope)
    request_dispatch()
    return resumed


def is_paused(scope: TaskType | QueueState, now: datetime) -> bool:
    """Return whether ``scope`` holds its tasks back at the time ``now``."""
    until = scope.paused_until
    return scope.paused_at is not None and (until is None or until > now)


def _require(user: Any, scope: TaskType | QueueState, verb: str) -> None:
    permission = PERMISSIONS[type(scope)]
    if user is not None and not user.has_perm(permission):
        raise NotPermitted(user, permission, f"{verb} {scope}")


def _scope_and_key(scope: TaskType | QueueState) -> tuple[str, str]:
    if isinstance(scope, TaskType):
        return WaitInterval.Scope.TYPE, scope.method
    return WaitInterval.Scope.QUEUE, scope.name


def _write(scope: TaskType | QueueState, only: Any = None, **values: Any) -> bool:
    rows = type(scope).objects.filter(only or Q(), pk=scope.pk)
    return bool(rows.update(**values))


def _end_intervals(scope: TaskType | QueueState) -> None:
    kind, key = _scope_and_key(scope)
    open_now = Q(to_at=None) | Q(to_at__gt=DatabaseNow())
    rows = WaitInterval.objects.filter(open_now, scope=kind, key=key)
    rows.update(to_at=DatabaseNow())
