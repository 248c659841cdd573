"""The tasks that ended within a span of time: what a bar of a chart leads to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext_lazy as _

from .addresses import admin_url
from .tasklists import GivenFilter

PARAMETER = "ended"
_FORM = "%Y-%m-%dT%H:%MZ"


class EndedFilter(GivenFilter):
    """Ended within a span: ``2026-11-22T10:05Z..2026-11-22T10:06Z``, without its end."""

    title = _("ended")
    parameter_name = PARAMETER

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        """Return the span as the only choice, in the time of the site."""
        value = self.value()
        if value is None:
            return []
        span = _parsed(value)
        return [(value, span_text(*span) if span else value)]

    def chosen(self, rows: Any, value: str) -> Any:
        """Return the tasks that ended in the span and are not to be retried by themselves."""
        span = _parsed(value)
        if span is None:
            return rows.none()
        return rows.ended().filter(ended_at__gte=span[0], ended_at__lt=span[1])


def span_text(begin: datetime, end: datetime) -> str:
    """Return a span as a person reads it: the day only where it is needed."""
    begin, end = timezone.localtime(begin), timezone.localtime(end)
    last = date_format(end, "H:i" if begin.date() == end.date() else "Y-m-d H:i")
    return f"{date_format(begin, 'Y-m-d H:i')} - {last}"


def ended_url(begin: datetime, end: datetime, **narrowed: str) -> str:
    """Return the address of the list of what ended from ``begin`` on and before ``end``."""
    span = f"{begin.astimezone(UTC).strftime(_FORM)}..{end.astimezone(UTC).strftime(_FORM)}"
    return admin_url("taskcontrol_tasklog_changelist", **{PARAMETER: span, **narrowed})


def _parsed(value: str) -> tuple[datetime, datetime] | None:
    try:
        begin, end = (
            datetime.strptime(part, _FORM).replace(tzinfo=UTC) for part in value.split("..")
        )
    except ValueError:
        return None
    return begin, end
