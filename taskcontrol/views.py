"""Suspends and resumes the dispatcher for scripts and pages."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from .audit import given_reason
from .jsondoor import asked_text, asked_truth, json_door
from .models import WaitInterval
from .people import name_of
from .switching import switch


@json_door
def toggle(request: HttpRequest, given: Any) -> dict[str, Any]:
    """Let the dispatcher promote or suspend it: ``{"enable": 0 or 1, "reason": "…"}``.

    Answers the new state, by whom it was brought about and since when.
    """
    enable = asked_truth(given, "enable")
    reason = given_reason(asked_text(given, "reason"))
    user: Any = request.user
    state, told = switch(user, enable=enable, reason=reason)
    answer = {"enabled": not state.suspended, "changed": told is not None}
    if state.suspended:
        by: str | None = name_of(state.suspended_by_id)
        at = state.suspended_at
    else:
        intervals = WaitInterval.objects.filter(scope=WaitInterval.Scope.DISPATCHER)
        by = user.get_username() if told else None
        at = intervals.order_by("-id").values_list("to_at", flat=True).first()
    return {**answer, "by": by, "at": at, "reason": state.suspended_reason}
