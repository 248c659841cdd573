"""Addresses of pages of admin, on the site that the person looks at."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import URLPattern, reverse
from django.utils.http import urlencode

#: The name of the site of the request that this thread answers; a project may have several.
_site: ContextVar[str] = ContextVar("taskcontrol_admin_site", default="admin")


def admin_url(view: str, *keys: Any, **asked: Any) -> str:
    """Return the address of a page: ``admin_url("taskcontrol_tasklog_change", 12)``.

    ``keys`` are those of rows, as they are stored; ``asked`` is what a list is narrowed by.
    """
    # Unquoted, admin would read _22 in a key as a quotation mark and find no such row.
    args = [quote(key) for key in keys]
    url = reverse(f"admin:{view}", args=args, current_app=_site.get())
    return f"{url}?{urlencode(asked)}" if asked else url


def stay_on(site: str) -> None:
    """Let the addresses of this answer, also of its template, be those of ``site``."""
    _site.set(site)


def staying_on(site: str, patterns: list[URLPattern]) -> list[URLPattern]:
    """Return ``patterns`` with views whose addresses are those of ``site``."""
    for pattern in patterns:
        if not iscoroutinefunction(pattern.callback):  # those send no addresses
            pattern.callback = _staying(site, pattern.callback)
    return patterns


def _staying(site: str, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def answer(request: HttpRequest, *given: Any, **parts: Any) -> Any:
        stay_on(site)
        return view(request, *given, **parts)

    return answer
