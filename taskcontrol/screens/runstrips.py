"""Draws the last runs of schedules as a strip of small squares, each linked to its task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import OuterRef, Subquery
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..models import TaskLog
from ..status import Status
from ..wording import duration, moment
from .addresses import admin_url
from .presentation import EMPTY

#: Squares in a list, and on the page of one schedule.
IN_LIST, ON_PAGE = 10, 30
#: What stands in a square, so that its color says nothing alone.
MARKS = {
    Status.PENDING: "·",
    Status.PAUSED: "=",
    Status.QUEUED: "»",
    Status.STARTED: "▸",
    Status.FINISHED: "✓",
    Status.FAILED: "✗",
    Status.CANCELED: "-",
}
SHOWN = ("status", "retry_at", "occupies", "created_at", "time_taken")


def with_last_runs(schedules: Any) -> Any:
    """Return the schedules with the keys of their last runs.

    For each square one probe of the index (schedule, id).
    """
    return schedules.annotate(**{f"run_{place}": _nth(place) for place in range(IN_LIST)})


def _nth(place: int) -> Subquery:
    own = _runs().filter(schedule=OuterRef("name"))
    return Subquery(own.values("pk")[place : place + 1])


def read_runs(schedules: Iterable[Any]) -> None:
    """Give each schedule ``last``, its last task, and ``runs``, the newest first.

    The keys were read with the rows; the tasks of all come in one statement.
    """
    keys = {
        one: [getattr(one, f"run_{place}") for place in range(IN_LIST)] for one in schedules
    }
    wanted = {key for one in keys for key in (*keys[one], one.last_task_id) if key}
    tasks = TaskLog.objects.only(*SHOWN).in_bulk(wanted)
    for one, own in keys.items():
        one.last = tasks.get(one.last_task_id)
        one.runs = [tasks[key] for key in own if key in tasks]


def runs_of(name: str) -> list[TaskLog]:
    """Return the last runs of one schedule, the newest first."""
    return list(_runs().filter(schedule=name).only(*SHOWN)[:ON_PAGE])


def _runs() -> Any:
    # In the words of the index.
    return TaskLog.objects.exclude(schedule="").order_by("-id")


def strip(runs: Sequence[TaskLog], *, linked: bool) -> SafeString | str:
    """Return the runs as squares, the newest last; ``linked`` for those who may see tasks."""
    if not runs:
        return EMPTY
    squares = format_html_join(
        "", "<li>{}</li>", ((_square(run, linked=linked),) for run in reversed(runs))
    )
    told = _("Last runs, the newest last")
    return format_html('<ol class="tc-strip" aria-label="{}">{}</ol>', told, squares)


def _square(run: TaskLog, *, linked: bool) -> SafeString:
    status = Status(run.status)
    told = f"{status.label}, {moment(run.created_at)}"
    if run.time_taken is not None:
        told += f", {duration(run.time_taken.total_seconds())}"
    shown = format_html(
        '<span class="tc-square tc-{}" aria-hidden="true">{}</span>'
        '<span class="tc-unseen">{}</span>',
        status.lower(),
        MARKS[status],
        told,
    )
    if not linked:
        return format_html('<span title="{}">{}</span>', told, shown)
    url = admin_url("taskcontrol_tasklog_change", run.pk)
    return format_html('<a href="{}" title="{}">{}</a>', url, told, shown)
