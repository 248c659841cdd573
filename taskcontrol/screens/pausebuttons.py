"""The pause and resume buttons of queues and task types."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .. import dialect
from ..audit import REASON_MAX, given_reason, perform
from ..conf import conf
from ..exceptions import InvalidCall
from ..models import QueueState, TaskType
from ..pausing import is_paused, pause_all, resume_all
from ..wording import moment
from .presentation import badge, person, related, time_tag, visible


class PauseForm(forms.Form):
    """Until when; in the time zone of the site, as the page says."""

    until = forms.DateTimeField(required=False)


def press_pause(request: HttpRequest, scope: TaskType | QueueState) -> str | None:
    """Pause a queue or a type as the form says."""
    form = PauseForm(request.POST)
    if not form.is_valid():
        raise InvalidCall(_("The time until which to pause cannot be read."))
    until, reason = form.cleaned_data["until"], given_reason(request.POST.get("reason"))

    def act() -> str:
        pause_all(scope, user=request.user, reason=reason, until=until)
        end = f" until {moment(until)}" if until else ""
        return f"Paused{end}: {reason}" if reason else f"Paused{end}."

    return perform(request.user, scope, act)


def press_resume(request: HttpRequest, scope: TaskType | QueueState) -> str | None:
    """Let a queue or a type go on."""

    def act() -> str | None:
        return "Resumed." if resume_all(scope, user=request.user) else None

    return perform(request.user, scope, act)


def pause_context(scope: TaskType | QueueState, *, may_change: bool) -> dict[str, Any]:
    """Return what the page of a queue or a type shows of its pause."""
    now = dialect.now(conf.DATABASE)
    return {
        "pause": {
            "badge": state_badge(scope, now),
            "paused": is_paused(scope, now),
            "since": time_tag(scope.paused_at),
            "by": person(related(scope, "paused_by"), scope.paused_by_id),
            "until": scope.paused_until and time_tag(scope.paused_until),
            "reason": visible(scope.paused_reason),
        },
        "may_pause": may_change,
        "reason_max": REASON_MAX,
    }


def state_badge(scope: TaskType | QueueState, now: datetime) -> SafeString:
    """Return whether ``scope`` promotes its tasks, as a badge."""
    if is_paused(scope, now):
        return badge(_("Paused"), "paused")
    return badge(_("Open"), "live")
