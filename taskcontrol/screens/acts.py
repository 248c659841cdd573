"""The list actions on tasks: ask first, with counts per status, then act on what was shown."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from ..audit import given_reason
from ..conf import conf
from ..dialect import now
from ..suspension import dispatcher_state
from .asking import AsksFirst
from .bulkacts import forecast, start
from .searchkeys import MOST_DIGITS
from .tasklists import HEAVY
from .taskverbs import (
    CANCEL,
    DELETE,
    ERASE,
    PAUSE,
    RESUME,
    RETRY,
    RETRY_NOW,
    TO_FRONT,
    Verb,
    act_on_all,
    told,
)

#: Tasks that one click acts on: as many as a request does within a few seconds.
MOST_AT_ONCE = 500


class ActsOnTasks(AsksFirst):
    """The list actions; each is shown to those who have its permission."""

    actions = (
        "retry_tasks",
        "retry_tasks_now",
        "pause_tasks",
        "resume_tasks",
        "to_front_tasks",
        "cancel_tasks",
        "erase_tasks",
    )

    def has_erase_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may delete ended tasks."""
        return request.user.has_perm(DELETE)

    @admin.action(permissions=["retry"], description=_("Retry selected tasks…"))
    def retry_tasks(self, request: HttpRequest, queryset: Any) -> Any:
        """Run failed and canceled tasks again."""
        return self.ask_then_act(RETRY, request, queryset)

    @admin.action(permissions=["retry"], description=_("Retry selected tasks first…"))
    def retry_tasks_now(self, request: HttpRequest, queryset: Any) -> Any:
        """Run failed and canceled tasks again, first in line."""
        return self.ask_then_act(RETRY_NOW, request, queryset)

    @admin.action(permissions=["prioritize"], description=_("Pause selected tasks…"))
    def pause_tasks(self, request: HttpRequest, queryset: Any) -> Any:
        """Hold pending tasks back."""
        return self.ask_then_act(PAUSE, request, queryset)

    @admin.action(permissions=["prioritize"], description=_("Resume selected tasks…"))
    def resume_tasks(self, request: HttpRequest, queryset: Any) -> Any:
        """Let paused tasks go on."""
        return self.ask_then_act(RESUME, request, queryset)

    @admin.action(
        permissions=["prioritize"], description=_("Put selected tasks to the front…")
    )
    def to_front_tasks(self, request: HttpRequest, queryset: Any) -> Any:
        """Let waiting tasks go before all others of their queue, in their own order."""
        return self.ask_then_act(TO_FRONT, request, queryset)

    @admin.action(permissions=["cancel"], description=_("Cancel selected tasks…"))
    def cancel_tasks(self, request: HttpRequest, queryset: Any) -> Any:
        """Stop tasks wherever they are."""
        return self.ask_then_act(CANCEL, request, queryset)

    @admin.action(permissions=["erase"], description=_("Delete selected ended tasks…"))
    def erase_tasks(self, request: HttpRequest, queryset: Any) -> Any:
        """Delete tasks that have ended, with their attempts and events."""
        return self.ask_then_act(ERASE, request, queryset)

    def response_action(
        self, request: HttpRequest, queryset: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Take the action; keys that no list has sent are refused and not looked up."""
        keys = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if len(keys) > MOST_AT_ONCE or not all(map(_is_key, keys)):
            raise SuspiciousOperation("These are not the selected tasks of a list.")
        return super().response_action(request, queryset, *args, **kwargs)

    def ask_then_act(self, verb: Verb, request: HttpRequest, queryset: Any) -> Any:
        """Show what would be done to how many; once confirmed, do it and tell."""
        if "confirmed" not in request.POST:
            return self._ask(verb, request, queryset)
        reason = given_reason(request.POST.get("reason"))
        if _is_across(request):
            return self._start(verb, request, reason)
        # Not those of the filtered list: what moved on since would not be told of.
        rows = self.get_queryset(request).filter(pk__in=_chosen(request)).defer(*HEAVY)
        outcomes = act_on_all(verb, rows, request.user, reason)
        level = messages.SUCCESS if set(outcomes) == {verb.done} else messages.WARNING
        self.message_user(request, told(outcomes, verb), level)
        return None

    def _start(self, verb: Verb, request: HttpRequest, reason: str) -> HttpResponse:
        """Let a task act on all that match, and show its page."""
        task = start(
            verb,
            request.user,
            query=_query(request),
            until=_until(request),
            reason=reason,
            site=self.admin_site.name,
        )
        told = _("This task does it, as you. Its page shows how far it is.")
        self.message_user(request, told, messages.SUCCESS)
        return redirect(f"{self.admin_site.name}:taskcontrol_tasklog_change", task.pk)

    def _ask(self, verb: Verb, request: HttpRequest, queryset: Any) -> TemplateResponse:
        rows = queryset.select_related(None)
        keys = list(rows.values_list("pk", flat=True)[: MOST_AT_ONCE + 1])
        many = len(keys) > MOST_AT_ONCE
        # Few are pinned: what is done is done to those that were counted.
        shown = rows if many else self.model.objects.filter(pk__in=keys)
        return self.question(
            request,
            verb,
            keys=[] if many else keys,
            until=now(conf.DATABASE).isoformat() if many else "",
            waits=many and dispatcher_state().suspended,
            forecast=forecast(verb, shown),
        )


def _is_across(request: HttpRequest) -> bool:
    return request.POST.get("select_across") == "1"


def _chosen(request: HttpRequest) -> list[int]:
    return list(map(int, request.POST.getlist(ACTION_CHECKBOX_NAME)))


def _query(request: HttpRequest) -> str:
    """Return what narrows the list, without the page of it."""
    asked = request.GET.copy()
    asked.pop(PAGE_VAR, None)
    return asked.urlencode()


def _until(request: HttpRequest) -> datetime:
    """Return the time of the question: what was created later was not counted."""
    try:
        until = parse_datetime(request.POST.get("until", ""))
    except ValueError:
        until = None
    if until is None or until.tzinfo is None:
        raise SuspiciousOperation("The form does not say when it was made.")
    return until


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
