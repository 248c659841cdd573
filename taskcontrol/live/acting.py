"""What a page may do to a task: cancel it, and run it again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from ..audit import given_reason
from ..cancellation import cancel
from ..exceptions import TaskNotFound
from ..jsondoor import Nonsense, asked_text, asked_truth, json_door
from ..lookup import find_task
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
        reason = given_reason(asked_text(given, "reason"))
        return {"canceled": cancel(task, reason, user=request.user)}
    if verb == "retry":
        now = "now" in given and asked_truth(given, "now")
        return {"name": retry(task, now, user=request.user).name}
    raise Nonsense(f"A task can be canceled and retried here, not {verb!r}.")
