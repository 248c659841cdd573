"""The screen of the queues: what waits in each, who serves it, and its pause button."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..conf import known_queues, queue_timeout
from ..models import QueueState
from ..monitoring import QueueNumbers, snapshot
from ..status import Status
from ..wording import duration
from .base import ReadOnlyScreen
from .pausebuttons import pause_context, press_pause, press_resume, state_badge
from .presentation import EMPTY, badge, visible

CONTROL = "taskcontrol.control_queue"


class QueueList(ChangeList):
    """The queues, with what waits in all of them read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page and the load of its queues."""
        super().get_results(request)
        now = snapshot()
        numbers = {queue.name: queue for queue in now.queues}
        queues: list[Any] = list(self.result_list)
        for queue in queues:
            queue.numbers = numbers.get(queue.name) or QueueNumbers(queue.name)
            queue.read_at = now.at
        self.result_list = queues


class QueueStateAdmin(ReadOnlyScreen):
    """Queues; pausing one keeps its tasks Pending."""

    list_display = ("label", "state", "waiting", "oldest", "active", "served", "timeout")
    ordering = ("name",)
    sortable_by = ()
    fieldsets = (
        (
            _("All of it"),
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

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        """List every queue that the settings know, also one that nobody paused yet."""
        known = set(known_queues())
        stored = QueueState.objects.filter(name__in=known).values_list("name", flat=True)
        missing = sorted(known - set(stored))
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
            *super().get_urls(),
        ]

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one queue with its buttons."""
        pause = pause_context(row, may_change=request.user.has_perm(CONTROL))
        return {**super().page_of(row, request), **pause}

    @admin.display(description=_("queue"))
    def label(self, queue: Any) -> str:
        """Show the name."""
        return visible(queue.name)

    @admin.display(description=_("state"))
    def state(self, queue: Any) -> SafeString:
        """Show whether the queue is paused."""
        return state_badge(queue, queue.read_at)

    @admin.display(description=_("waiting"))
    def waiting(self, queue: Any) -> SafeString:
        """Link to what waits for the dispatcher."""
        url = reverse("admin:taskcontrol_tasklog_changelist")
        query = urlencode({"queue": queue.name, "status__exact": Status.PENDING})
        number = queue.numbers.pending + queue.numbers.later
        return format_html('<a href="{}?{}">{}</a>', url, query, f"{number:,}")

    @admin.display(description=_("oldest waits"))
    def oldest(self, queue: Any) -> str:
        """Show how long the first in line has waited."""
        waited = queue.numbers.oldest_seconds
        return EMPTY if waited is None else duration(waited)

    @admin.display(description=_("sent · running"))
    def active(self, queue: Any) -> str:
        """Show what is past waiting, a body that is still to go included."""
        numbers = queue.numbers
        return f"{numbers.queued:,} · {numbers.started + numbers.stopping:,}"

    @admin.display(description=_("workers"))
    def served(self, queue: Any) -> Any:
        """Show how many workers take tasks from it; none is a fault when something waits."""
        numbers = queue.numbers
        if not numbers.workers and numbers.pending:
            return badge(str(_("nobody")), "failed")
        return _("%(workers)s with %(slots)s slots") % vars(numbers)

    @admin.display(description=_("usual timeout"))
    def timeout(self, queue: Any) -> str:
        """Show how long its tasks may run when nothing else says."""
        return (
            duration(queue_timeout(queue.name)) if queue.name in known_queues() else EMPTY
        )
