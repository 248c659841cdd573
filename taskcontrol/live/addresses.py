"""The addresses of the live pages: below the site's own, and inside admin without any."""

from __future__ import annotations

from django.urls import URLPattern, path

from . import acting, polling, streams


def addresses(prefix: str = "") -> list[URLPattern]:
    """Return the addresses, their names with ``prefix`` before them."""
    return [
        path("live/stream", streams.stream, name=f"{prefix}live_stream"),
        path("live/state", polling.state, name=f"{prefix}live_state"),
        path("live/<int:task_id>/<slug:verb>", acting.act, name=f"{prefix}task_act"),
    ]
