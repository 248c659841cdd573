"""The page on which a person runs a task of a type, and is led to the task."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from .. import dialect
from ..conf import conf
from ..exceptions import NotPermitted, TaskControlError
from ..handruns import may_run, run_by_hand
from ..models import TaskLog, TaskType
from .pausebuttons import state_badge
from .presentation import visible
from .runform import RunForm, Shape, shape_of


def run_page(screen: Any, request: HttpRequest, one: TaskType) -> HttpResponse:
    """Show the form of a type; once it is sent and taken, lead to the task that it made."""
    if not may_run(request.user):
        raise PermissionDenied
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "POST"])
    try:
        shape = shape_of(one.method)
    except TaskControlError as error:
        return _page(screen, request, one, why_not=visible(error))
    if request.method != "POST":
        return _page(screen, request, one, form=RunForm(one, shape), shape=shape)
    form = RunForm(one, shape, request.POST)
    task = _run(form, one, request.user) if form.is_valid() else None
    if task is None:
        return _page(screen, request, one, form=form, shape=shape)
    told = _("Made task %(task)s.") % {"task": task.pk}
    screen.message_user(request, told, messages.SUCCESS)
    return redirect(f"{screen.admin_site.name}:taskcontrol_tasklog_change", task.pk)


def _run(form: RunForm, one: TaskType, user: Any) -> TaskLog | None:
    try:
        return run_by_hand(one, form.call(), user=user)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from error
    except TaskControlError as error:
        form.tell(error)
    return None


def _page(
    screen: Any,
    request: HttpRequest,
    one: TaskType,
    *,
    form: RunForm | None = None,
    shape: Shape | None = None,
    why_not: str = "",
) -> HttpResponse:
    context = {
        **screen.admin_site.each_context(request),
        "title": _("Run %(method)s") % {"method": visible(one.method)},
        "opts": screen.opts,
        "media": screen.media,
        "original": one,
        "state": state_badge(one, dialect.now(conf.DATABASE)),
        "form": form,
        "says": shape.says if shape else "",
        "why_not": why_not,
    }
    return TemplateResponse(request, "admin/taskcontrol/tasktype/run.html", context)
