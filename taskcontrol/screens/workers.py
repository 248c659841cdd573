"""The screen of the workers: who is alive, what they consume and what they run."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from ..conf import conf
from ..dialect import DatabaseNow
from ..models import TaskLog, seconds
from ..monitoring import held_places
from ..permissions import VIEW
from ..status import Status
from .base import ReadOnlyScreen
from .presentation import ago, badge, memory, span, status_badge, visible

#: Tasks that the page of a worker shows.
MOST_HELD = 100


class WorkerList(ChangeList):
    """The workers, with the slots that their bodies take read at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page and what its workers run."""
        super().get_results(request)
        workers: list[Any] = list(self.result_list)
        taken: Counter[int] = Counter()
        for group in held_places():
            if group["status"] != Status.QUEUED:
                taken[group["worker"]] += group["n"]
        for worker in workers:
            worker.taken = taken[worker.pk]
        self.result_list = workers


class WorkerAdmin(ReadOnlyScreen):
    """Workers, one row for each start."""

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
                    ("memory_kb", "cpu_percent"),
                    ("children", "versions"),
                    ("boot", "prefetch_off"),
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the workers, each with the time of reading."""
        return super().get_queryset(request).annotate(read_at=DatabaseNow())

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return WorkerList

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one worker with the tasks that hold its slots, as far as the person may."""
        taken = TaskLog.objects.occupying().filter(worker=row.pk)
        row.taken = taken.exclude(status=Status.QUEUED).count()
        return {
            **super().page_of(row, request),
            "state": self.state(row),
            "facts": [
                (_("slots taken"), self.slots(row)),
                (_("queues"), self.consumes(row)),
                (_("memory"), self.memory(row)),
                (_("last seen"), self.last_seen(row)),
                (_("up for"), self.up_for(row)),
                (_("process"), row.pid),
                (_("versions"), _versions(row)),
            ],
            "held": _held(row) if request.user.has_perm(VIEW) else [],
        }

    @admin.display(description=gettext_lazy("worker"))
    def label(self, worker: Any) -> str:
        """Show the name."""
        return visible(worker.hostname)

    @admin.display(description=gettext_lazy("state"))
    def state(self, worker: Any) -> SafeString:
        """Show whether the worker lives."""
        return badge(*state_of(worker))

    @admin.display(description=gettext_lazy("slots taken"))
    def slots(self, worker: Any) -> str:
        """Show how many bodies run, of how many that could."""
        return f"{worker.taken:,} / {worker.pool_size:,}"

    @admin.display(description=gettext_lazy("queues"))
    def consumes(self, worker: Any) -> str:
        """Show the queues."""
        return visible(", ".join(map(str, worker.queues)))

    @admin.display(description=gettext_lazy("memory"))
    def memory(self, worker: Any) -> str:
        """Show the memory of the main process and its children together."""
        children = sum(child.get("memory_kb", 0) for child in worker.children)
        return memory(None if worker.memory_kb is None else worker.memory_kb + children)

    @admin.display(description=gettext_lazy("last seen"))
    def last_seen(self, worker: Any) -> SafeString | str:
        """Show the last sign of life."""
        return ago(worker.last_seen_at, worker.read_at)

    @admin.display(description=gettext_lazy("up for"))
    def up_for(self, worker: Any) -> str:
        """Show how long the worker has lived."""
        end = worker.left_at or worker.lost_at or worker.read_at
        return span(worker.started_at, end)


def _versions(worker: Any) -> str:
    return visible(
        ", ".join(f"{name} {version}" for name, version in worker.versions.items())
    )


def _held(worker: Any) -> list[dict[str, Any]]:
    held = TaskLog.objects.occupying().filter(worker=worker.pk).order_by("started_at")
    return [
        {
            "task": task,
            "label": visible(task.job_name),
            "badge": status_badge(task.status, occupies=True),
            "ran": span(task.started_at, worker.read_at),
        }
        for task in held.only("job_name", "status", "started_at", "pid")[:MOST_HELD]
    ]


def state_of(worker: Any) -> tuple[str, str]:
    """Return the state of a worker as a word and as its color."""
    silent = worker.read_at - worker.last_seen_at > seconds(conf.WORKER_LOST_AFTER)
    states = (
        (worker.lost_at, _("lost"), "failed"),
        (worker.left_at, _("left"), "canceled"),
        (silent, _("silent"), "failed"),
        (worker.leaving_at, _("leaving"), "paused"),
        (not worker.consuming, _("not consuming"), "paused"),
    )
    for holds, word, color in states:
        if holds:
            return word, color
    return _("live"), "live"
