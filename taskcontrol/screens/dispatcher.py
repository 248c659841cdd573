"""The page of the dispatcher, with the button that suspends and resumes it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern
from django.utils.translation import gettext as _, gettext_lazy

from .. import dialect
from ..audit import REASON_MAX, given_reason
from ..conf import conf
from ..models import DispatcherState
from ..suspension import PERMISSION, dispatcher_state
from ..switching import switch
from .base import ReadOnlyScreen
from .presentation import ago, person, related, time_tag, visible


class DispatcherStateAdmin(ReadOnlyScreen):
    """The dispatcher: one row, so its list is its page."""

    fieldsets = (
        (
            gettext_lazy("All of it"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("suspended", "suspended_at", "suspended_by", "suspended_reason"),
                    ("last_pass_at", "last_promoted_at", "beat_seen_at"),
                    "broker_error",
                    ("site", "learned_at"),
                ),
            },
        ),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see it; who may switch it may."""
        return super().has_view_permission(request, obj) or request.user.has_perm(
            PERMISSION
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        """Show the one row at once."""
        return redirect(self.url_of("change", dispatcher_state().pk))

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        return [
            self.button("suspend", press_suspend),
            self.button("resume", press_resume),
            *super().get_urls(),
        ]

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show the state with its buttons."""
        now = dialect.now(conf.DATABASE)
        return {
            **super().page_of(row, request),
            **switch_context(request.user, row),
            "title": _("Dispatcher"),
            "facts": [
                (_("last pass"), ago(row.last_pass_at, now)),
                (_("last promotion"), ago(row.last_promoted_at, now)),
                (_("beat last seen"), ago(row.beat_seen_at, now)),
                (_("broker"), visible(row.broker_error) or _("reachable")),
            ],
        }


def switch_context(user: Any, state: DispatcherState) -> dict[str, Any]:
    """Return what the switch of the dispatcher shows."""
    return {
        "state": state,
        "since": time_tag(state.suspended_at),
        "by": person(related(state, "suspended_by"), state.suspended_by_id),
        "reason": visible(state.suspended_reason),
        "may_switch": user.has_perm(PERMISSION),
        "reason_max": REASON_MAX,
    }


def press_suspend(request: HttpRequest, state: DispatcherState) -> str | None:
    """Suspend the dispatcher until somebody resumes it."""
    reason = given_reason(request.POST.get("reason"))
    return switch(request.user, enable=False, reason=reason)[1]


def press_resume(request: HttpRequest, state: DispatcherState) -> str | None:
    """Let the dispatcher go on."""
    return switch(request.user, enable=True)[1]
