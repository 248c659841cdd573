"""Draws how many places of a limit are taken, and lists the tasks that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .. import permissions
from ..models import TaskLog
from .addresses import admin_url
from .presentation import ago, link, related, status_badge, visible

#: Holders that a page names, the longest there first.
MOST_HOLDERS = 20
#: Columns that a named holder shows.
SHOWN = ("job_name", "status", "occupies", "queued_at", "started_at", "worker")


def places_of(methods: Iterable[str]) -> dict[str, int]:
    """Return how many places the tasks of each method hold, in one statement."""
    held = TaskLog.objects.occupying().filter(method__in=list(methods)).order_by()
    return dict(held.values_list("method").annotate(n=Count("pk")))


def gauge(places: int, limit: int) -> SafeString:
    """Return ``2 of 3`` with its bar; without a limit the number alone."""
    if not limit:
        return format_html('<span class="tc-numbers">{}</span>', f"{places:,}")
    text = _("%(places)s of %(limit)s") % {"places": f"{places:,}", "limit": f"{limit:,}"}
    kind = "paused" if places >= limit else "started"
    return format_html(
        '<span class="tc-gauge"><span class="tc-numbers">{}</span> '
        '<svg class="tc-bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="tc-fill-{}" x="0" y="0" width="{}" height="6"/></svg></span>',
        text,
        kind,
        f"{min(100 * places / limit, 100):.3f}",
    )


def holders_of(method: str, user: Any, now: Any) -> tuple[list[dict[str, Any]], int]:
    """Return the tasks that hold places of ``method`` and that ``user`` may see.

    With them comes how many more there are; those of others are counted alone.
    """
    held = TaskLog.objects.occupying().filter(method=method)
    rows = permissions.visible_to(user).filter(occupies=True, method=method)
    rows = rows.select_related("worker").only(*SHOWN, "worker__hostname")
    shown = [_holder(row, now) for row in rows.order_by("queued_at", "id")[:MOST_HOLDERS]]
    return shown, max(held.count() - len(shown), 0)


def _holder(row: Any, now: Any) -> dict[str, Any]:
    worker = related(row, "worker")
    return {
        "task": link(admin_url("taskcontrol_tasklog_change", row.pk), row.job_name),
        "badge": status_badge(row.status, occupies=row.occupies),
        "since": ago(row.started_at or row.queued_at, now),
        "worker": visible(worker) if worker else "",
    }
