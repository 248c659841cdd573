"""The purge button of a queue: its name is typed, and everything that waits is canceled."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext as _

from ..audit import given_reason, perform
from ..exceptions import InvalidCall
from ..flow import Flow
from ..models import QueueState
from ..purging import newest_pending, pending_in, purge_as_task, purge_queue, require
from ..suspension import dispatcher_state
from .background import enqueue_for
from .presentation import visible

#: Tasks that one click cancels; more are canceled by a task.
MOST_AT_ONCE = 500
#: Seconds that such a task may take: millions of rows.
TAKES = 4 * 3600


def purge_context(flow: Flow, *, may_purge: bool) -> dict[str, Any]:
    """Return what the page of a queue shows of its purge; no button without something."""
    return {"may_purge": may_purge and bool(flow.waiting), "waiting": flow.waiting}


def press_purge(request: HttpRequest, queue: QueueState) -> str | None:
    """Cancel what waits in a queue if its name was typed; above 500 tasks, by a task."""
    require(request.user, queue.name)
    if request.POST.get("name", "").strip() != queue.name:
        raise InvalidCall(
            _("Type the name of the queue, %(name)s, to purge it. Nothing was canceled.")
            % {"name": visible(queue.name)}
        )
    reason = given_reason(request.POST.get("reason"))
    up_to = newest_pending(queue.name)
    waiting = pending_in(queue.name).values("pk")[: MOST_AT_ONCE + 1].count()
    purge = _purge_by_task if waiting > MOST_AT_ONCE else _purge_at_once
    return perform(
        request.user, queue, lambda: purge(queue.name, reason, up_to, request.user)
    )


def _purge_at_once(name: str, reason: str, up_to: int, user: Any) -> str | None:
    canceled = purge_queue(name, reason, up_to=up_to, user=user)
    why = f": {reason}" if reason else "."
    return f"Purged, {canceled:,} canceled{why}" if canceled else None


def _purge_by_task(name: str, reason: str, up_to: int, user: Any) -> str:
    # Its own queue at worst: ``up_to`` spares the task itself, which comes behind.
    task = enqueue_for(
        user,
        purge_as_task,
        {"of": name, "reason": reason, "up_to": up_to},
        job_name=f"Purge {name}",
        timeout=TAKES,
        beside=name,
    )
    why = f": {reason}" if reason else ""
    when = ", once the dispatcher is resumed" if dispatcher_state().suspended else ""
    return f"Purge asked for: task {task.name} cancels what waits now{when}{why}."
