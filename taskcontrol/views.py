"""The small JSON door: suspends and resumes the dispatcher for scripts and pages."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.views.decorators.csrf import csrf_exempt

from .audit import given_reason
from .models import WaitInterval
from .people import name_of
from .switching import switch

#: What ``enable`` may say, in JSON or in a form.
SAYS = {"1": True, "true": True, "0": False, "false": False}


class Nonsense(ValueError):
    """A request whose sentence says what is wrong with it."""


@csrf_exempt  # asked for in _check_sender, so that the answer is JSON
def toggle(request: HttpRequest) -> JsonResponse:
    """Let the dispatcher promote or suspend it: ``{"enable": 0 or 1, "reason": "…"}``.

    Answers the new state, by whom it was brought about and since when.
    """
    if request.method != "POST":
        return _refused("Send a POST request.", 405, Allow="POST")
    try:
        _check_sender(request)
        enable, reason = _asked(request)
        return JsonResponse(_switch(request.user, enable=enable, reason=reason))
    except PermissionError as error:
        return _refused(str(error), 403)
    except Nonsense as error:
        return _refused(str(error), 400)


class _CsrfFault(CsrfViewMiddleware):
    """Django's check, answered with its reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _check_sender(request: HttpRequest) -> None:
    """Raise PermissionError unless a person who is logged in has sent this form."""
    if not request.user.is_authenticated:
        raise PermissionError("Log in first.")
    check = _CsrfFault(_nothing)
    check.process_request(request)
    fault = check.process_view(request, _nothing, (), {})
    if fault:
        raise PermissionError(f"CSRF verification failed: {fault}")


def _nothing(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


def _asked(request: HttpRequest) -> tuple[bool, str]:
    given = _body(request)
    enable, reason = given.get("enable"), given.get("reason") or ""
    said = str(enable).strip().lower() if isinstance(enable, str | int) else ""
    if said not in SAYS:
        raise Nonsense("'enable' must be 0, 1, true or false.")
    if not isinstance(reason, str):
        raise Nonsense("'reason' must be a text.")
    return SAYS[said], given_reason(reason)


def _body(request: HttpRequest) -> Any:
    if request.content_type != "application/json":
        return request.POST
    try:
        given = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Nonsense("The body is not JSON.") from error
    if not isinstance(given, dict):
        raise Nonsense("The body must be a JSON object.")
    return given


def _switch(user: Any, *, enable: bool, reason: str) -> dict[str, Any]:
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


def _refused(why: str, status: int, **headers: str) -> JsonResponse:
    return JsonResponse({"error": why}, status=status, headers=headers)
