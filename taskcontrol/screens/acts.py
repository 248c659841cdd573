"""The list actions on tasks: ask first, with counts per status, then act on what was shown."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from .. import permissions
from ..audit import REASON_MAX, given_reason
from ..models import TaskLog
from ..status import Status
from .presentation import status_badge
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
    Verb,
    act_on_all,
    told,
)

#: Tasks that one click acts on: as many as a request does within a few seconds.
MOST_AT_ONCE = 500


class ActsOnTasks(admin.ModelAdmin):
    """The list actions; each is shown to those who have its permission."""

    actions = (
        "retry_tasks",
        "retry_tasks_now",
        "pause_tasks",
        "resume_tasks",
        "cancel_tasks",
        "erase_tasks",
    )

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may cancel the tasks of others."""
        return request.user.has_perm(permissions.CANCEL)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may retry the tasks of others."""
        return request.user.has_perm(permissions.RETRY)

    def has_prioritize_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may pause and resume tasks."""
        return request.user.has_perm(permissions.PRIORITIZE)

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
        if not all(map(_is_key, request.POST.getlist(ACTION_CHECKBOX_NAME))):
            raise SuspiciousOperation("A selected task is no number.")
        return super().response_action(request, queryset, *args, **kwargs)

    def ask_then_act(self, verb: Verb, request: HttpRequest, queryset: Any) -> Any:
        """Show what would be done to how many; once confirmed, do it and tell."""
        if "confirmed" not in request.POST:
            return self._ask(verb, request, queryset)
        # Not those of the filtered list: what moved on since would not be told of.
        rows = self.get_queryset(request).filter(pk__in=_chosen(request)).defer(*HEAVY)
        reason = given_reason(request.POST.get("reason"))
        outcomes = act_on_all(verb, rows, request.user, reason)
        level = messages.SUCCESS if set(outcomes) == {verb.done} else messages.WARNING
        self.message_user(request, told(outcomes, verb), level)
        return None

    def _ask(self, verb: Verb, request: HttpRequest, queryset: Any) -> TemplateResponse:
        rows = queryset.select_related(None).only("status", "retry_at", "occupies")
        found = list(rows[: MOST_AT_ONCE + 1])
        tasks = found[:MOST_AT_ONCE]
        context = {
            **self.admin_site.each_context(request),
            "title": verb.label,
            "opts": self.opts,
            "media": self.media,
            "verb": verb,
            "action": request.POST["action"],
            "checkbox": ACTION_CHECKBOX_NAME,
            "tasks": tasks,
            "cut": len(found) > MOST_AT_ONCE,
            "most": MOST_AT_ONCE,
            "lines": _lines(verb, tasks),
            "fitting": sum(map(verb.fits, tasks)),
            "reason_max": REASON_MAX,
            "back": request.get_full_path(),
        }
        return TemplateResponse(request, "admin/taskcontrol/tasklog/ask.html", context)


def _chosen(request: HttpRequest) -> list[int]:
    return list(map(int, request.POST.getlist(ACTION_CHECKBOX_NAME)[:MOST_AT_ONCE]))


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _lines(verb: Verb, tasks: list[TaskLog]) -> list[dict[str, Any]]:
    """Return per status how many there are and how many of them the verb fits."""
    there = Counter(task.status for task in tasks)
    fitting = Counter(task.status for task in tasks if verb.fits(task))
    return [
        {
            "badge": status_badge(status),
            "number": there[status],
            "fitting": fitting[status],
            "left": there[status] - fitting[status],
        }
        for status in Status
        if there[status]
    ]
