"""Runs a task of a type by hand: as the person who asks, and on record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .audit import perform
from .enqueueing import enqueue
from .exceptions import NotPermitted
from .models import TaskLog, TaskType

#: Who may run a task of any type from admin.
RUN = "taskcontrol.run_tasktype"


def may_run(user: Any) -> bool:
    """Return whether ``user`` may run tasks of types by hand."""
    return bool(user.has_perm(RUN))


def run_by_hand(one: TaskType, call: Mapping[str, Any], *, user: Any) -> TaskLog:
    """Enqueue ``call`` as ``user``, note it in the history of the type, return the task.

    ``call`` is what ``enqueue`` takes beside ``created_by``. Raises NotPermitted without the
    permission ``run_tasktype``, and what ``enqueue`` raises; then nothing is stored.
    """
    if not may_run(user):
        raise NotPermitted(user, RUN, f"run a task of the type {one}")
    made: list[TaskLog] = []

    def act() -> str:
        made.append(enqueue(**{**call, "created_by": user}))
        return f"Made task {made[0].pk}."

    perform(user, one, act)
    return made[0]
