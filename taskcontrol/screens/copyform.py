"""Retries an ended task with edited arguments: a form, and the copy that it makes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _, gettext_lazy

from .. import permissions
from ..arguments import decode
from ..audit import perform
from ..copies import run_again
from ..editing import as_text, from_text
from ..exceptions import InvalidCall, NotPermitted, TaskControlError
from ..models import TaskLog
from .presentation import status_badge, visible

#: The name of the page in addresses.
PAGE = "edit_and_retry"


class CopyForm(forms.Form):
    """The arguments of a copy."""

    arguments = forms.CharField(
        label=gettext_lazy("Arguments"),
        required=False,
        strip=False,
        widget=forms.Textarea(
            {"rows": 16, "class": "tc-edit", "spellcheck": "false", "autofocus": True}
        ),
    )

    def clean_arguments(self) -> dict[str, Any]:
        """Return the arguments with their types."""
        try:
            return from_text(self.cleaned_data["arguments"] or "{}")
        except InvalidCall as error:
            raise forms.ValidationError(visible(error)) from error


def may_edit(task: TaskLog, user: Any) -> bool:
    """Return whether ``user`` can retry ``task`` with edited arguments as it stands."""
    return (
        task.ended
        and user.has_perm(permissions.SENSITIVE)
        and permissions.may(user, permissions.RETRY, task)
    )


def edit_and_retry(screen: Any, request: HttpRequest, task: Any) -> HttpResponse:
    """Show the form; when it is sent and fits, enqueue the copy and go to its page."""
    if task is None:
        raise Http404
    _require(request.user, task)
    form = CopyForm(request.POST or None, initial={"arguments": _prefilled(task)})
    if request.method == "POST" and form.is_valid():
        copy = _copied(form, task, request.user)
        if copy is not None:
            told = _("This is a copy of task %(id)s.") % {"id": task.pk}
            screen.message_user(request, told, messages.SUCCESS)
            return redirect(screen.url_of("change", copy.pk))
    return _page(screen, request, task, form)


def _require(user: Any, task: TaskLog) -> None:
    try:
        permissions.require(user, permissions.RETRY, task, "run a copy of")
        permissions.require(user, permissions.SENSITIVE, task, "edit the arguments of")
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from error


def _prefilled(task: TaskLog) -> str:
    try:
        return as_text(decode(task.arguments))
    except Exception:  # noqa: BLE001 - a row written by another version can still be retyped
        return as_text(task.arguments)


def _copied(form: CopyForm, task: TaskLog, user: Any) -> TaskLog | None:
    made: list[TaskLog] = []

    def act() -> str:
        given = form.cleaned_data["arguments"]
        made.append(run_again(task, arguments=given, user=user))
        return f"Retried with edited arguments as task {made[0].pk}."

    try:
        perform(user, task, act)
    except (TaskControlError, PermissionError) as error:
        form.add_error("arguments", visible(error))
        return None
    return made[0]


def _page(screen: Any, request: HttpRequest, task: Any, form: CopyForm) -> HttpResponse:
    context = {
        **screen.admin_site.each_context(request),
        "title": _("Retry with edited arguments"),
        "opts": screen.opts,
        "media": screen.media,
        "task": task,
        "name": visible(task.job_name),
        "badge": status_badge(task.status),
        "method": visible(task.method),
        "form": form,
        "back": screen.url_of("change", task.pk),
        "ready": task.ended,
    }
    page = "admin/taskcontrol/tasklog/copy.html"
    status = 422 if form.errors else 200
    return TemplateResponse(request, page, context, status=status)
