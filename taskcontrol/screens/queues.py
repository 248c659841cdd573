"""The screen of the queues: what flows through each, who serves it, and its buttons."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from ..conf import known_queues, queue_timeout
from ..dialect import DatabaseNow
from ..figures import Figures, figures_of_queues
from ..flow import Flow, flows
from ..models import QueueState, WaitInterval
from ..purging import PERMISSION as CONTROL
from ..status import Status
from ..wording import duration
from .addresses import admin_url
from .base import ReadOnlyScreen
from .charts import times_of
from .pausebuttons import pause_context, press_pause, press_resume, state_badge
from .presentation import EMPTY, badge, link, person, related, time_tag, visible
from .purgebutton import press_purge, purge_context

#: Pauses that the page of a queue shows.
MOST_PAUSES = 10
#: How far back waits are told.
HOURS = 1


class QueueList(ChangeList):
    """The queues, with what flows through all of them read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page and the flow of its queues."""
        super().get_results(request)
        queues: list[Any] = list(self.result_list)
        found: dict[str, Flow] = request.flows  # type: ignore[attr-defined]
        found |= flows([queue.name for queue in queues if queue.name not in found])
        names = [queue.name for queue in queues]
        ended = figures_of_queues(names, hours=HOURS)
        for queue in queues:
            queue.flow = found[queue.name]
            queue.figures = ended.get(queue.name, Figures())
        self.result_list = queues


class QueueStateAdmin(ReadOnlyScreen):
    """Queues; pausing one keeps its tasks Pending."""

    list_display = (
        "label",
        "state",
        "waiting",
        "oldest",
        "wait",
        "rates",
        "active",
        "served",
    )
    ordering = ("name",)
    sortable_by = ()
    fieldsets = (
        (
            gettext_lazy("All of it"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("name", "paused_at", "paused_by", "paused_until", "paused_reason"),
                ),
            },
        ),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see the queues; who may pause them may."""
        return super().has_view_permission(request, obj) or request.user.has_perm(CONTROL)

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the queues, each with the time of reading."""
        return super().get_queryset(request).annotate(read_at=DatabaseNow())

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        """List every queue that is known, served or has work, also one never paused."""
        known = request.flows = flows()  # type: ignore[attr-defined]
        stored = QueueState.objects.filter(name__in=known).values_list("name", flat=True)
        missing = sorted(known.keys() - set(stored))
        rows = [QueueState(name=name) for name in missing]
        QueueState.objects.bulk_create(rows, ignore_conflicts=True)
        return super().changelist_view(request, extra_context)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return QueueList

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        return [
            self.button("pause", press_pause),
            self.button("resume", press_resume),
            self.button("purge", press_purge),
            *super().get_urls(),
        ]

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one queue with its buttons."""
        may_control = request.user.has_perm(CONTROL)
        row.flow = flows([row.name])[row.name]
        row.figures = figures_of_queues([row.name], hours=HOURS).get(row.name, Figures())
        return {
            **super().page_of(row, request),
            **pause_context(row, may_change=may_control),
            **purge_context(row.flow, may_purge=may_control),
            "facts": _facts(row, request.user),
            "warnings": _warnings(row.flow),
            "pauses": _pauses(row),
        }

    @admin.display(description=gettext_lazy("queue"))
    def label(self, queue: Any) -> str:
        """Show the name."""
        return visible(queue.name)

    @admin.display(description=gettext_lazy("state"))
    def state(self, queue: Any) -> SafeString:
        """Show whether the queue is paused, and why and until when."""
        shown = state_badge(queue, queue.read_at)
        if queue.paused_at is None:
            return shown
        until = time_tag(queue.paused_until) if queue.paused_until else ""
        end = format_html(_("until {}"), until) if until else ""
        return format_html(
            '{}<span class="tc-quiet">{}</span><span class="tc-quiet">{}</span>',
            shown,
            visible(queue.paused_reason),
            end,
        )

    @admin.display(description=gettext_lazy("waiting"))
    def waiting(self, queue: Any) -> SafeString:
        """Link to what waits for the dispatcher; warn when nothing more is taken."""
        return format_html("{}{}", _waiting(queue.flow), _warning_full(queue.flow))

    @admin.display(description=gettext_lazy("oldest waits"))
    def oldest(self, queue: Any) -> str:
        """Show how long the first in line has waited."""
        waited = queue.flow.oldest_seconds
        return EMPTY if waited is None else duration(waited)

    @admin.display(description=gettext_lazy("wait p95"))
    def wait(self, queue: Any) -> str:
        """Show within which time nearly all began that ended within the hour."""
        return times_of(queue.figures, "wait")[1]

    @admin.display(description=gettext_lazy("in · out per minute"))
    def rates(self, queue: Any) -> str:
        """Show what came and what ended within the last minute."""
        return rates_of(queue.flow)

    @admin.display(description=gettext_lazy("sent · running"))
    def active(self, queue: Any) -> str:
        """Show what is past waiting, a body that is still to go included."""
        return _active(queue.flow)

    @admin.display(description=gettext_lazy("workers"))
    def served(self, queue: Any) -> Any:
        """Show how many workers take tasks from it; none is a fault when something waits."""
        if queue.flow.unserved:
            return badge(_("nobody"), "failed")
        return _served(queue.flow)


def _waiting(flow: Flow) -> SafeString:
    asked = {"queue": flow.name, "status__exact": Status.PENDING}
    return link(
        admin_url("taskcontrol_tasklog_changelist", **asked), number_of(flow.waiting)
    )


def number_of(number: int) -> str:
    """Return a number as it is read, or that there are at least so many."""
    return f"{number:,}" if type(number) is int else str(number)


def rates_of(flow: Flow) -> str:
    """Return what came and what ended within the last minute."""
    return f"{number_of(flow.came)} · {number_of(flow.went)}"


def _active(flow: Flow) -> str:
    return f"{flow.sent:,} · {flow.running + flow.stopping:,}"


def _served(flow: Flow) -> str:
    numbers = {"workers": len(flow.workers), "slots": flow.slots}
    return _("%(workers)s with %(slots)s slots") % numbers


def _warning_full(flow: Flow) -> SafeString | str:
    if not flow.full:
        return ""
    told = _("the most are %(limit)s: enqueue refuses more") % {"limit": f"{flow.limit:,}"}
    return format_html('<span class="tc-why">{}</span>', told)


def _warnings(flow: Flow) -> list[str]:
    """Return what is wrong with a queue, each with what to do."""
    told = []
    if flow.unserved:
        name = visible(flow.name)
        told.append(
            _("Tasks wait here and no live worker takes them. Start one:")
            + f" manage.py taskcontrol worker --queue {name}"
        )
    if flow.full:
        told.append(
            _(
                "max_queued_jobs is reached (%(limit)s): enqueue raises QueueOverloaded "
                "until fewer wait."
            )
            % {"limit": f"{flow.limit:,}"}
        )
    return told


def _facts(queue: Any, user: Any) -> list[tuple[str, Any]]:
    flow = queue.flow
    limit = EMPTY if flow.limit is None else f"{flow.limit:,}"
    known = queue.name in known_queues()
    return [
        (_("waiting"), _waiting(flow)),
        (_("oldest waits"), _oldest(flow)),
        (_("wait p50, p95"), ", ".join(times_of(queue.figures, "wait"))),
        (_("sent"), f"{flow.sent:,}"),
        (_("running"), f"{flow.running:,}"),
        (_("stopping"), f"{flow.stopping:,}"),
        (_("came in the last minute"), number_of(flow.came)),
        (_("ended in the last minute"), number_of(flow.went)),
        (_("workers"), _consumers(flow, user)),
        (_("most that may wait"), limit),
        (_("usual timeout"), duration(queue_timeout(queue.name)) if known else EMPTY),
    ]


def _oldest(flow: Flow) -> SafeString | str:
    if flow.oldest_seconds is None:
        return EMPTY
    url = admin_url("taskcontrol_tasklog_change", flow.oldest_task)
    return link(url, duration(flow.oldest_seconds))


def _consumers(flow: Flow, user: Any) -> SafeString | str:
    if not flow.workers:
        return badge(_("nobody"), "failed") if flow.unserved else _("nobody")
    may_look = user.has_perm("taskcontrol.view_worker")
    shown = [
        link(admin_url("taskcontrol_worker_change", worker.id), worker.name)
        if may_look
        else visible(worker.name)
        for worker in flow.workers
    ]
    names = format_html_join(", ", "{}", [[name] for name in shown])
    return format_html("{}<br>{}", _served(flow), names)


def _pauses(queue: Any) -> list[dict[str, Any]]:
    rows = WaitInterval.objects.filter(scope=WaitInterval.Scope.QUEUE, key=queue.name)
    return [
        {
            "since": time_tag(row.from_at),
            "until": time_tag(row.to_at) if row.to_at else _("now"),
            "by": person(related(row, "actor"), row.actor_id),
            "reason": visible(row.reason),
        }
        for row in rows.select_related("actor").order_by("-id")[:MOST_PAUSES]
    ]
