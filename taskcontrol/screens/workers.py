"""The screen of the workers: who is alive, what each runs, and how it is let go."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Case, Value, When
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from ..audit import REASON_MAX, given_reason, perform
from ..dialect import DatabaseNow
from ..draining import PERMISSION, drain_worker, ping_worker
from ..exceptions import BrokerUnavailable, InvalidCall
from ..models import TaskLog, Worker
from ..occupancy import claimed_of
from ..permissions import VIEW
from ..slots import slots_taken
from ..status import Status
from ..wording import duration, listed
from .addresses import admin_url
from .base import ReadOnlyScreen
from .presentation import EMPTY, ago, badge, link, span, status_badge, visible
from .rescued import numbers_rescued, rescued_from
from .running import running_page
from .vitals import (
    clock,
    clock_is_off,
    is_gone,
    memory_of_all,
    memory_of_process,
    processor,
    state_of,
    versions,
)

#: Tasks that the page of a worker shows, and those beside its name in the list.
MOST_HELD, MOST_NAMED = 100, 3
#: Attempts that it shows of those which the worker itself says it holds.
MOST_SAID = 10


class WorkerList(ChangeList):
    """The workers, with what their slots hold and what was taken from them read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page and what its workers run."""
        super().get_results(request)
        workers: list[Any] = list(self.result_list)
        held = defaultdict(list)
        for task in _bodies([worker.pk for worker in workers if not is_gone(worker)]):
            held[task.worker_id].append(task)
        claimed = claimed_of(TaskLog.objects.filter(worker__in=workers))
        rescued = numbers_rescued([worker.pk for worker in workers if is_gone(worker)])
        for worker in workers:
            worker.bodies, worker.rescued = held[worker.pk], rescued.get(worker.pk, 0)
            worker.claimed = claimed[worker.pk]
            worker.taken = _taken(worker)
            worker.named = request.user.has_perm(VIEW)
        self.result_list = workers


class WorkerAdmin(ReadOnlyScreen):
    """Workers, one row for each start; those that are gone below the others."""

    list_display = ("label", "state", "slots", "consumes", "memory", "last_seen", "up_for")
    sortable_by = ()
    fieldsets = (
        (
            gettext_lazy("All of it"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("hostname", "pid"),
                    ("pool", "pool_size", "queues"),
                    ("started_at", "last_seen_at", "consuming"),
                    ("leaving_at", "left_at", "lost_at"),
                    ("memory_kb", "cpu_percent", "clock_offset"),
                    ("children", "held", "versions"),
                    ("boot", "prefetch_off"),
                ),
            },
        ),
    )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see the workers; who may drain them may."""
        return super().has_view_permission(request, obj) or request.user.has_perm(
            PERMISSION
        )

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the workers, each with the time of reading."""
        return super().get_queryset(request).annotate(read_at=DatabaseNow())

    def get_ordering(self, request: HttpRequest) -> Any:
        """Show those that are there first, the newest above."""
        there = When(left_at=None, lost_at=None, then=Value(0))
        return (Case(there, default=Value(1)).asc(), "-id")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return WorkerList

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons, and of the page of what runs."""
        running = self.admin_site.admin_view(self.running_view)
        return [
            path("running/", running, name="taskcontrol_running"),
            self.button("ping", press_ping),
            self.button("drain", press_drain),
            *super().get_urls(),
        ]

    def running_view(self, request: HttpRequest) -> HttpResponse:
        """Show what every worker does now; staff without a permission see the own tasks."""
        page: HttpResponse = running_page(request, self.admin_site, self.opts, self.media)
        return page

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one worker with the tasks that hold its slots, as far as the person may."""
        sees_tasks = request.user.has_perm(VIEW)
        bodies = list(_bodies([row.pk])[:MOST_HELD])
        row.bodies, row.named = bodies, False
        row.claimed = claimed_of(TaskLog.objects.filter(worker=row.pk))[row.pk]
        row.taken = _taken(row)
        may_act = request.user.has_perm(PERMISSION) and not is_gone(row)
        return {
            **super().page_of(row, request),
            "state": badge(*state_of(row)),
            "facts": _facts(row),
            "held": [_held(row, task) for task in bodies] if sees_tasks else [],
            "rescued": rescued_from(row) if sees_tasks and is_gone(row) else [],
            "gone": is_gone(row),
            "may_ping": may_act,
            "may_drain": may_act and row.leaving_at is None,
            "reason_max": REASON_MAX,
        }

    @admin.display(description=gettext_lazy("worker"))
    def label(self, worker: Any) -> SafeString:
        """Show the name, and under it what it runs on."""
        return format_html(
            '{}<span class="tc-quiet">{}</span>', visible(worker.hostname), versions(worker)
        )

    @admin.display(description=gettext_lazy("state"))
    def state(self, worker: Any) -> SafeString:
        """Show whether the worker lives, and what was taken from one that is gone."""
        shown = badge(*state_of(worker))
        if not worker.rescued:
            return shown
        told = _("%(number)s taken from it") % {"number": f"{worker.rescued:,}"}
        return format_html('{}<span class="tc-quiet">{}</span>', shown, told)

    @admin.display(description=gettext_lazy("slots taken"))
    def slots(self, worker: Any) -> SafeString | str:
        """Show how many slots are taken, of how many, and by which bodies."""
        if is_gone(worker):
            return EMPTY
        named = worker.bodies[:MOST_NAMED] if worker.named else []
        links = format_html_join(
            "", '<span class="tc-quiet">{}</span>', [[_task_link(task)] for task in named]
        )
        more = worker.taken - len(named) if named else 0
        rest = format_html('<span class="tc-quiet">+ {}</span>', more) if more else ""
        return format_html("{}{}{}", _slots(worker), links, rest)

    @admin.display(description=gettext_lazy("queues"))
    def consumes(self, worker: Any) -> str:
        """Show the queues."""
        return _queues(worker)

    @admin.display(description=gettext_lazy("memory"))
    def memory(self, worker: Any) -> SafeString:
        """Show the memory of all its processes, and the load of the main one."""
        return format_html(
            '{}<span class="tc-quiet">{}</span>', memory_of_all(worker), processor(worker)
        )

    @admin.display(description=gettext_lazy("last seen"))
    def last_seen(self, worker: Any) -> SafeString:
        """Show the last sign of life, and a clock that is wrong."""
        kind = "tc-why" if clock_is_off(worker) else "tc-quiet"
        told = "" if worker.clock_offset is None else _("clock %s") % clock(worker)
        seen = ago(worker.last_seen_at, worker.read_at)
        return format_html('{}<span class="{}">{}</span>', seen, kind, told)

    @admin.display(description=gettext_lazy("up for"))
    def up_for(self, worker: Any) -> str:
        """Show how long the worker has lived."""
        return _up_for(worker)


def press_ping(request: HttpRequest, worker: Worker) -> str:
    """Ask a worker whether it takes commands, and tell its answer."""
    try:
        answered = ping_worker(worker, user=request.user)
    except BrokerUnavailable as error:
        told = f"Pinged: the broker is away ({error})."
    else:
        if answered is not None:
            return _tell(request, worker, f"Pinged: it answered in {duration(answered)}.")
        told = "Pinged: it gave no answer."
    raise InvalidCall(_tell(request, worker, told))


def _tell(request: HttpRequest, worker: Worker, told: str) -> str:
    perform(request.user, worker, lambda: told)
    return told


def press_drain(request: HttpRequest, worker: Worker) -> str | None:
    """Let a worker finish what it runs and end."""
    reason = given_reason(request.POST.get("reason"))

    def act() -> str | None:
        if not drain_worker(worker, user=request.user):
            return None
        return f"Told to leave: {reason}" if reason else "Told to leave."

    return perform(request.user, worker, act)


def _bodies(workers: list[int]) -> Any:
    rows = TaskLog.objects.occupying().filter(worker__in=workers)
    rows = rows.exclude(status=Status.QUEUED).order_by("started_at", "pk")
    return rows.only("job_name", "status", "started_at", "pid", "occupies", "worker")


def _facts(worker: Any) -> list[tuple[str, Any]]:
    return [
        (_("slots taken"), _slots(worker)),
        (_("claimed, not begun"), f"{worker.claimed:,}"),
        (_("says it holds"), _named(worker) or EMPTY),
        (_("queues"), _queues(worker)),
        (_("memory"), memory_of_all(worker)),
        (_("processor"), processor(worker) or EMPTY),
        (_("last seen"), ago(worker.last_seen_at, worker.read_at)),
        (_("clock"), _warned(clock(worker)) if clock_is_off(worker) else clock(worker)),
        (_("up for"), _up_for(worker)),
        (_("process"), worker.pid),
        (_("versions"), versions(worker)),
    ]


def _warned(text: str) -> SafeString:
    return format_html('<span class="tc-why">{}</span>', text)


def _taken(worker: Any) -> int:
    return slots_taken(len(worker.bodies), worker.claimed, worker.pool_size)


def _slots(worker: Any) -> str:
    return f"{worker.taken:,} / {worker.pool_size:,}"


def _named(worker: Any) -> str:
    told = [f"{task} ({_('attempt %s') % attempt})" for task, attempt in worker.held]
    return listed(told, MOST_SAID)


def _queues(worker: Any) -> str:
    return visible(", ".join(map(str, worker.queues)))


def _up_for(worker: Any) -> str:
    end = worker.left_at or worker.lost_at or worker.read_at
    return span(worker.started_at, end)


def _task_link(task: Any) -> SafeString:
    return link(admin_url("taskcontrol_tasklog_change", task.pk), task.job_name)


def _held(worker: Any, task: Any) -> dict[str, Any]:
    return {
        "link": _task_link(task),
        "badge": status_badge(task.status, occupies=task.occupies),
        "ran": span(task.started_at, worker.read_at),
        "pid": task.pid,
        "memory": memory_of_process(worker, task.pid),
    }
