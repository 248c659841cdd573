"""The screen of the batches: how far each is, with its failures in sight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import ChangeList
from django.db.models import Max
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from .. import permissions
from ..audit import REASON_MAX
from ..batches import counts_of, held_reason
from ..dialect import DatabaseNow
from ..models import TaskLog
from ..status import Status
from .addresses import admin_url
from .base import ReadOnlyScreen
from .batchacts import ActsOnBatches
from .batchbuttons import VERBS, buttons_for
from .batchpace import paces_of
from .batchstate import is_over, state_of
from .keptfresh import follows_batch
from .presentation import (
    EMPTY,
    ago,
    link,
    person,
    related,
    span,
    status_badge,
    visible,
)

VIEW = "taskcontrol.view_taskbatch"
#: From left to right in the bar: what is over, what runs, what waits.
BAR = (
    Status.FINISHED,
    Status.CANCELED,
    Status.FAILED,
    Status.STARTED,
    Status.QUEUED,
)


@dataclass(frozen=True)
class Part:
    """The members of a batch in one status, as a piece of its bar and as a link."""

    status: Status
    number: int
    url: str
    x: float = 0
    width: float = 0


class BatchList(ChangeList):
    """A page of batches, the members of all counted at once, and how fast they end."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page and its numbers."""
        super().get_results(request)
        batches: list[Any] = list(self.result_list)
        numbers = counts_of(batches)
        for batch in batches:
            batch.numbers = numbers[batch.pk]
        paces = paces_of(batches)
        for batch in batches:
            batch.pace = paces.get(batch.pk)
        self.result_list = batches


class TaskBatchAdmin(ActsOnBatches, ReadOnlyScreen):
    """Batches: everybody of the staff sees the own ones, all with the permission."""

    list_display = ("label", "state", "progress", "created", "creator")
    list_select_related = ("created_by",)
    sortable_by = ()
    search_fields = ("id__exact", "title__startswith")
    search_help_text = gettext_lazy("The id, or the beginning of the title")
    fieldsets = (
        (
            gettext_lazy("All of it"),
            {
                "classes": ("collapse",),
                "fields": (
                    ("id", "title"),
                    ("created_at", "created_by"),
                    ("total", "ended_at", "on_failure"),
                    ("paused_at", "paused_by", "paused_reason"),
                    ("resumed_at", "canceled_at", "pruned"),
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the batches that the person may see, each with the time of reading."""
        rows = super().get_queryset(request).annotate(read_at=DatabaseNow())
        if request.user.has_perm(VIEW):
            return rows
        return rows.filter(created_by=request.user.pk)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Everybody of the staff may look at the own batches."""
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see this batch; some list everybody has."""
        user = request.user
        return obj is None or user.has_perm(VIEW) or obj.created_by_id == user.pk

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return BatchList

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        return [
            *(self.button(verb.name, verb.press) for verb in VERBS),
            *super().get_urls(),
        ]

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one batch with its numbers and its buttons."""
        row.numbers = counts_of([row])[row.pk]
        held = held_reason(row)
        return {
            **super().page_of(row, request),
            "progress": progress_of(row),
            "state": state_of(row),
            "reasons": [visible(f"It {held.removeprefix('its batch ')}.")] if held else [],
            "buttons": buttons_for(row, request.user),
            "reason_max": REASON_MAX,
            "facts": [
                (_("created"), self.created(row)),
                (_("by"), self.creator(row)),
                (_("lasted") if is_over(row) else _("going on for"), _lasted(row)),
                (_("pace"), paces_of([row]).get(row.pk, EMPTY)),
                (_("tasks"), link(_members_url(row.pk), f"{row.total:,}")),
                *_coordinator(row, request.user),
                *_called_back(row),
            ],
        }

    @admin.display(description=gettext_lazy("batch"))
    def label(self, batch: Any) -> str:
        """Show the title, else the id."""
        return visible(batch)

    @admin.display(description=gettext_lazy("state"))
    def state(self, batch: Any) -> SafeString:
        """Show whether anything is still to come."""
        return _live(batch, "state", state_of(batch))

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, batch: Any) -> SafeString:
        """Show the bar, its numbers, and how fast they grow."""
        pace = format_html('<span class="tc-quiet">{}</span>', batch.pace or "")
        return _live(batch, "bar", format_html("{}{}", bar(batch), pace))

    @admin.display(description=gettext_lazy("created"))
    def created(self, batch: Any) -> SafeString | str:
        """Show when the batch was made."""
        return ago(batch.created_at, batch.read_at)

    @admin.display(description=gettext_lazy("by"))
    def creator(self, batch: Any) -> str:
        """Show who made it."""
        return person(related(batch, "created_by"), batch.created_by_id)


def _live(batch: Any, name: str, shown: SafeString) -> SafeString:
    """Return a cell that follows its batch until that is over."""
    followed = "" if is_over(batch) else batch.pk
    return follows_batch(f"{name}-{quote(batch.pk)}", shown, followed)


def _lasted(batch: Any) -> str:
    """Return how long the batch took, or has been going on."""
    if is_over(batch):
        members = TaskLog.objects.filter(batch_id=batch.pk)
        end = members.aggregate(end=Max("ended_at"))["end"]
        return span(batch.created_at, batch.ended_at or end)
    return span(batch.created_at, batch.read_at)


def _coordinator(batch: Any, user: Any) -> Iterator[tuple[str, SafeString]]:
    """Yield the task whose body enqueued the members, if ``user`` may see one that did."""
    members = TaskLog.objects.filter(batch_id=batch.pk, parent__isnull=False)
    key = members.order_by().values_list("parent", flat=True).first()
    task = permissions.visible_to(user).filter(pk=key).first() if key is not None else None
    if task is not None and task.batch_id != batch.pk:
        yield _("filled by"), _task_link(task)


def _called_back(batch: Any) -> Iterator[tuple[str, SafeString | str]]:
    """Yield for each callback which task it became; what it was given stands there."""
    names = {
        "success": _("on success"),
        "failure": _("on failure"),
        "completion": _("on completion"),
    }
    keys = [one["task"] for one in batch.callbacks.values() if one.get("task")]
    tasks = TaskLog.objects.in_bulk(keys)
    for event, callback in sorted(batch.callbacks.items()):
        task = tasks.get(callback.get("task"))
        if task is not None:
            yield names[event], _task_link(task)
        else:
            method = visible(callback["columns"]["method"])
            yield names[event], _with_note(method, _why_not_called(batch, callback))


def _why_not_called(batch: Any, callback: dict[str, Any]) -> str:
    if callback.get("task"):
        return _("called; its task was deleted")
    return _("not called") if is_over(batch) else _("not called yet")


def _with_note(text: str, note: str) -> SafeString:
    return format_html('{} <span class="tc-quiet">{}</span>', text, note)


def _task_link(task: TaskLog) -> SafeString:
    url = admin_url("taskcontrol_tasklog_change", task.pk)
    shown = status_badge(task.status, occupies=task.occupies)
    return format_html("{} {}", link(url, task.job_name), shown)


def _members_url(key: str, **narrowed: str) -> str:
    return admin_url("taskcontrol_tasklog_changelist", batch_id=key, **narrowed)


def bar(batch: Any) -> SafeString:
    """Return the progress of a batch as a bar with its numbers."""
    context = {"progress": progress_of(batch)}
    return render_to_string("admin/taskcontrol/progress.html", context)


def progress_of(batch: Any) -> dict[str, Any]:
    """Return the numbers of a batch as its bar shows them."""
    numbers, total = batch.numbers, max(batch.total, 1)
    return {
        "done": numbers["done"],
        "total": batch.total,
        "percent": min(100 * numbers["done"] // total, 100),
        "pieces": list(_pieces(batch.pk, numbers, total)),
        "parts": [_part(batch.pk, numbers, one) for one in Status if numbers[one]],
    }


def _pieces(key: str, numbers: Counter[str], total: int) -> Iterator[Part]:
    x = 0.0
    for status in BAR:
        width = round(100 * numbers[status] / total, 3)
        if width:
            yield _part(key, numbers, status, x=round(x, 3), width=width)
            x += width


def _part(key: str, numbers: Counter[str], status: Status, **place: float) -> Part:
    url = _members_url(key, status__exact=status)
    return Part(status, numbers[status], url, **place)
