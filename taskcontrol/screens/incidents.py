"""The screen of the incidents: what was found amiss, what mends it, and since when it is over."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, Case, Value, When
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from ..dialect import DatabaseNow
from ..models import Incident
from ..permissions import VIEW
from .addresses import admin_url
from .base import ReadOnlyScreen
from .presentation import EMPTY, ago, badge, link, visible
from .tasklists import StaticFilter

#: Who may see them.
PERMISSION = "taskcontrol.view_incident"
OPEN, OVER = "open", "over"


class OpenFilter(StaticFilter):
    """Those that are not over, or those that are."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return both states."""
        return [(OPEN, _("unresolved")), (OVER, _("over"))]

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the incidents in this state."""
        return rows.filter(resolved_at__isnull=value == OPEN)


class KindFilter(StaticFilter):
    """By what it is."""

    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the kinds."""
        return Incident.Kind.choices


class IncidentAdmin(ReadOnlyScreen):
    """What the accounts, the sweeps and the referee found; unresolved ones first."""

    list_display = ("what", "found_and_mended", "whose", "seen", "times")
    list_display_links = None
    list_filter = (OpenFilter, KindFilter)
    sortable_by = ()
    fields = (("kind", "task_id", "attempt"), "found", "repair", "count", "resolved_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the incidents, each with the time of reading."""
        sees_tasks = Value(request.user.has_perm(VIEW), output_field=BooleanField())
        rows = super().get_queryset(request)
        return rows.annotate(read_at=DatabaseNow(), links=sees_tasks)

    def get_ordering(self, request: HttpRequest) -> Any:
        """Show those that are not over first, what was seen last above."""
        still = When(resolved_at=None, then=Value(0))
        return (Case(still, default=Value(1)).asc(), "-last_at", "-id")

    def get_urls(self) -> Any:
        """Leave out the pages of one: the list tells all that is known."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_changelist"
        return [url for url in super().get_urls() if url.name == name]

    @admin.display(description=gettext_lazy("what"))
    def what(self, incident: Any) -> SafeString:
        """Show the kind, and whether it is over."""
        color = "canceled" if incident.resolved_at else "failed"
        return badge(visible(incident.get_kind_display()), color)

    @admin.display(description=gettext_lazy("found"))
    def found_and_mended(self, incident: Any) -> SafeString:
        """Show what was found, and under it what mends or mended it."""
        text = '<div class="tc-wide">{}<span class="tc-quiet">{}</span></div>'
        found = visible(incident.found) or EMPTY
        return format_html(text, found, visible(incident.repair))

    @admin.display(description=gettext_lazy("task"))
    def whose(self, incident: Any) -> SafeString | str:
        """Show the task, as a link to its page for those who may see it."""
        if not incident.task_id:
            return EMPTY
        told = _("task %(id)s, attempt %(attempt)s") % {
            "id": incident.task_id,
            "attempt": incident.attempt,
        }
        if not incident.links:
            return visible(told)
        return link(admin_url("taskcontrol_tasklog_change", incident.task_id), told)

    @admin.display(description=gettext_lazy("last seen"))
    def seen(self, incident: Any) -> SafeString:
        """Show when it was seen last, and since when it is known or over."""
        last = ago(incident.last_at, incident.read_at)
        first = ago(incident.first_at, incident.read_at)
        over = ago(incident.resolved_at, incident.read_at)
        told = _("over {}") if incident.resolved_at else _("first {}")
        since = format_html(told, over if incident.resolved_at else first)
        return format_html('{}<span class="tc-quiet">{}</span>', last, since)

    @admin.display(description=gettext_lazy("times"))
    def times(self, incident: Any) -> str:
        """Show how often it was seen."""
        return f"{incident.count:,}"
