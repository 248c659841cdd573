"""What a page may do to a task: cancel it, and run it again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from ..audit import given_reason, perform
from ..cancellation import cancel
from ..exceptions import TaskNotFound
from ..jsondoor import Nonsense, asked_text, asked_truth, json_door
from ..lookup import find_task
from ..models import TaskLog
from ..permissions import VIEW, may
from ..retries import retry


@json_door
def act(request: HttpRequest, given: Any, *, task_id: int, verb: str) -> dict[str, Any]:
    """Do ``verb`` to a task: ``cancel`` takes a ``reason``, ``retry`` takes ``now``.

    A task that the person may not see is answered as one that does not exist.
    """
    task = find_task(task_id)
    if not may(request.user, VIEW, task):
        raise TaskNotFound(task_id)
    if verb == "cancel":
        return {"canceled": _cancel(request.user, task, asked_text(given, "reason"))}
    if verb == "retry":
        _retry(request.user, task, now="now" in given and asked_truth(given, "now"))
        return {"name": task.name}
    raise Nonsense(f"A task can be canceled and retried here, not {verb!r}.")


def _cancel(user: Any, task: TaskLog, given: str) -> bool:
    reason = given_reason(given)

    def do() -> str | None:
        if not cancel(task, reason, user=user):
            return None
        return f"Canceled: {reason}" if reason else "Canceled."

    return perform(user, task, do) is not None


def _retry(user: Any, task: TaskLog, *, now: bool) -> None:
    def do() -> str:
        retry(task, now, user=user)
        return "Retried, first in line." if now else "Retried."

    perform(user, task, do)
