"""What the module in the browser must know of this site: addresses, transport, labels."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from ..status import Status


def config_for(request: HttpRequest) -> dict[str, Any]:
    """Return the block of settings that a page gives to the module."""
    return {
        "transport": "stream" if isinstance(request, ASGIRequest) else "poll",
        "stream": _address(request, "live_stream"),
        "state": _address(request, "live_state"),
        "act": _address(request, "task_act", task_id=0, verb="act"),
        "csrf": get_token(request),
        "labels": labels(),
    }


def _address(request: HttpRequest, name: str, **given: Any) -> str:
    """Return the address of a view: the site's own one, or the one inside admin."""
    try:
        return reverse(f"taskcontrol:{name}", kwargs=given)
    except NoReverseMatch:
        site = request.resolver_match.namespace if request.resolver_match else None
        return reverse(f"admin:taskcontrol_{name}", kwargs=given, current_app=site)


def labels() -> dict[str, str]:
    """Return the words of the module in the language of the request."""
    return {
        **{str(value): str(label) for value, label in Status.choices},
        "Task {name}": _("Task {name}"),
        "Processing…": _("Processing…"),
        "Starting…": _("Starting…"),
        "{count} (expected {total})": _("{count} (expected {total})"),
        "{label}: {status}": _("{label}: {status}"),
        "{name} failed": _("{name} failed"),
        "{count} failed": _("{count} failed"),
        "about {time} left": _("about {time} left"),
        "Close": _("Close"),
        "Not up to date since {time}.": _("Not up to date since {time}."),
        "Reload": _("Reload"),
    }
