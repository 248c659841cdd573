"""The JSON door: POST only, by a person who is logged in, refusals as sentences."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.views.decorators.csrf import csrf_exempt

from .exceptions import InvalidCall, TaskControlError, TaskNotFound

#: Does the work: takes the request, what was sent, and the parts of the address.
Answer = Callable[..., dict[str, Any]]


class Nonsense(ValueError):
    """A request whose sentence says what is wrong with it."""


#: How refusals are answered; the first that fits counts.
_STATUS: dict[type[Exception], int] = {
    PermissionError: 403,
    TaskNotFound: 404,
    ObjectDoesNotExist: 404,
    Nonsense: 400,
    InvalidCall: 400,
    TaskControlError: 409,
}


def json_door(answer: Answer) -> Callable[..., JsonResponse]:
    """Make a view of ``answer``, which returns what is sent back.

    PermissionError is answered with 403, nonsense with 400, an unknown task with 404, what
    is refused for now (a key is busy) with 409, each with its sentence under ``"error"``.
    """

    @csrf_exempt  # asked for in _check_sender, so that the answer is JSON
    @wraps(answer)
    def view(request: HttpRequest, **parts: Any) -> JsonResponse:
        if request.method != "POST":
            return _refused("Send a POST request.", 405, Allow="POST")
        try:
            _check_sender(request)
            return JsonResponse(answer(request, _body(request), **parts))
        except tuple(_STATUS) as error:
            codes = (code for kind, code in _STATUS.items() if isinstance(error, kind))
            return _refused(str(error), next(codes))

    return view


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


def asked_truth(given: Any, name: str) -> bool:
    """Return a yes or no that was sent in JSON or in a form."""
    value = given.get(name)
    said = str(value).strip().lower() if isinstance(value, str | int) else ""
    if said not in _SAYS:
        raise Nonsense(f"{name!r} must be 0, 1, true or false.")
    return _SAYS[said]


_SAYS = {"1": True, "true": True, "0": False, "false": False}


def asked_text(given: Any, name: str) -> str:
    """Return a text that may have been sent."""
    value = given.get(name) or ""
    if not isinstance(value, str):
        raise Nonsense(f"{name!r} must be a text.")
    return value


def _refused(why: str, status: int, **headers: str) -> JsonResponse:
    return JsonResponse({"error": why}, status=status, headers=headers)
