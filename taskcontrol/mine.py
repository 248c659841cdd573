"""The pages of "My tasks": what became of one's own tasks, for people without admin."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import CharField
from django.db.models.functions import Right
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from .audit import REASON_MAX, given_reason
from .dialect import DatabaseNow
from .live.states import tasks_by_id
from .models import TaskLog
from .permissions import SENSITIVE
from .progress import said_of
from .screens.presentation import (
    EMPTY,
    ago,
    pretty,
    ran,
    retries,
    status_badge,
    time_tag,
    visible,
)
from .screens.pressing import outcome_of
from .screens.story import progress_of
from .screens.tasklists import ERROR_TAIL, HEAVY
from .screens.taskverbs import CANCEL, RETRY, buttons_for
from .status import Status
from .text import last_line
from .wording import duration

#: Tasks on one page.
PER_PAGE = 25
#: What people can do to their own tasks here, when the type lets them.
VERBS = {verb.name: verb for verb in (CANCEL, RETRY)}
#: An id of more digits would not fit into its column.
_MOST_DIGITS = 18


@never_cache
@require_safe
@login_required
def my_tasks(request: HttpRequest) -> HttpResponse:
    """Show the person's own tasks, the newest first; ``?before=12`` those before one."""
    rows = _own(request.user).defer(*HEAVY).order_by("-pk")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) <= _MOST_DIGITS:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PER_PAGE + 1])
    context = {
        "rows": [_shown(task) for task in found[:PER_PAGE]],
        "older": found[PER_PAGE - 1].pk if len(found) > PER_PAGE else None,
        "before": before,
    }
    return render(request, "taskcontrol/mine/tasks.html", context)


@never_cache
@require_safe
@login_required
def my_task(request: HttpRequest, task_id: int) -> HttpResponse:
    """Show one own task: how far it is, what came of it, and what can be done to it."""
    task = _find(request.user, task_id)
    user: Any = request.user
    masked = not user.has_perm(SENSITIVE)
    shown = _shown(task)
    context = {
        **shown,
        "shown": {**shown, "left": _time_left(task)},
        "facts": _facts(task),
        "result": "" if task.result is None else pretty(task.result, masked=masked),
        "buttons": [verb for verb in buttons_for(task, user) if verb.name in VERBS],
        "reason_max": REASON_MAX,
    }
    return render(request, "taskcontrol/mine/task.html", context)


@csrf_protect
@require_POST
@login_required
def act_on_mine(request: HttpRequest, task_id: int, verb: str) -> HttpResponse:
    """Cancel or retry an own task, if its type lets the owner."""
    task = _find(request.user, task_id)
    if verb not in VERBS:
        raise Http404
    reason = given_reason(request.POST.get("reason")) if VERBS[verb].takes_reason else ""
    told, level = outcome_of(lambda: VERBS[verb].act(task, request.user, reason))
    messages.add_message(request, level, visible(told or ""), fail_silently=True)
    return redirect("taskcontrol:my_task", task_id=task_id)


def _own(user: Any) -> Any:
    """Return the tasks of ``user``, also for one who may see those of others."""
    return TaskLog.objects.filter(created_by=user.pk).annotate(
        read_at=DatabaseNow(),
        error_tail=Right("error_message", ERROR_TAIL, output_field=CharField()),
    )


def _find(user: Any, task_id: int) -> Any:
    """Return an own task; those of others are answered as if they did not exist."""
    task = None
    if len(str(task_id)) <= _MOST_DIGITS:
        task = _own(user).defer("arguments", "debug_log", "options").filter(pk=task_id)
        task = task.first()
    if task is None:
        raise Http404(_("You have no such task."))
    return task


def _shown(task: Any) -> dict[str, Any]:
    """Return what a line of the list and the head of a page show of ``task``."""
    return {
        "task": task,
        "name": visible(task.job_name),
        "badge": status_badge(task.status, occupies=task.occupies),
        "progress": progress_of(task),
        "message": visible(said_of(task.progress).text),
        "why": visible(_why(task)),
        "created": ago(task.created_at, task.read_at),
        "ran": "" if task.started_at is None else ran(task, task.read_at),
        "retry": ago(task.retry_at, task.read_at) if task.retry_at else "",
    }


def _why(task: Any) -> str:
    """Return why a task failed or was canceled, in one line."""
    if task.status == Status.FAILED:
        return last_line(task.error_tail) or task.ended_reason
    return task.ended_reason if task.status == Status.CANCELED else ""


def _facts(task: Any) -> list[tuple[str, Any]]:
    """Return the times that say something, each with its name."""
    facts = [
        (_("created"), time_tag(task.created_at)),
        (_("not before"), task.run_at and time_tag(task.run_at)),
        (_("started"), task.started_at and time_tag(task.started_at)),
        (_("ended"), task.ended_at and time_tag(task.ended_at)),
        (_("ran"), task.started_at and ran(task, task.read_at)),
        (_("retry due"), task.retry_at and ago(task.retry_at, task.read_at)),
        (_("attempt"), ", ".join(filter(None, (str(task.attempt), retries(task))))),
    ]
    return [(name, value) for name, value in facts if value and value != EMPTY]


def _time_left(task: Any) -> str:
    """Return how long a running task still takes, as far as it goes on as before."""
    state = tasks_by_id([task.pk]).get(task.pk)
    said = (state.told["progress"] if state else None) or {}
    seconds = said.get("eta_s")
    return "" if seconds is None else duration(max(round(seconds), 1))
