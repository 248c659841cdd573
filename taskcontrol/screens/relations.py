"""Shows what a task belongs to: batch, parent, children, copies, neighbors, document, schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.urls import NoReverseMatch
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..copies import COPY
from ..models import Schedule, TaskBatch, TaskLog
from ..permissions import visible_to
from ..status import Status
from .addresses import admin_url
from .presentation import link, status_badge, visible
from .reasons import task_url

#: Tasks that are shown of each kind.
MOST = 10

Relation = tuple[str, SafeString | str]


def relations_of(task: TaskLog, user: Any) -> list[Relation]:
    """Return what the page leads to, each with its name; nothing that ``user`` may not see."""
    return [
        *_batch(task, user),
        *_tasks(task, user),
        *_document(task, user),
        *_schedule(task, user),
    ]


def _batch(task: TaskLog, user: Any) -> Iterator[Relation]:
    if not task.batch_id:
        return
    url = admin_url("taskcontrol_tasklog_changelist", batch_id=task.batch_id)
    members = link(url, _("its tasks"))
    batch = TaskBatch.objects.filter(pk=task.batch_id).only("title").first()
    shown: SafeString | str = visible(task.batch_id)
    if batch is not None:
        page = admin_url("taskcontrol_taskbatch_change", batch.pk)
        shown = link(page, batch.title or batch.pk)
    yield _("batch"), format_html("{} ({})", shown, members)


def _tasks(task: TaskLog, user: Any) -> Iterator[Relation]:
    rows = visible_to(user).only("job_name", "status", "occupies", "options")
    wanted = {key for key in (task.parent_id, task.after_id) if key is not None}
    found = {row.pk: row for row in rows.filter(pk__in=wanted)} if wanted else {}
    parent = found.get(task.parent_id)
    if parent is not None:
        yield _("retry of") if task.options.get(COPY) else _("enqueued by"), _one(parent)
    if task.after_id in found:
        yield _("after"), _one(found[task.after_id])
    below = list(rows.filter(parent=task.pk).order_by("-pk")[: 2 * MOST + 1])
    yield from _many(_("copies"), [row for row in below if row.options.get(COPY)])
    yield from _many(_("has enqueued"), [one for one in below if not one.options.get(COPY)])
    waiting = rows.filter(after=task.pk, status=Status.PENDING).order_by("pk")
    yield from _many(_("waited for by"), list(waiting[: MOST + 1]))


def _many(name: str, rows: list[TaskLog]) -> Iterator[Relation]:
    if rows:
        shown = format_html_join("", "<div>{}</div>", ([_one(row)] for row in rows[:MOST]))
        more = format_html("<div>{}</div>", _("and more")) if len(rows) > MOST else ""
        yield name, format_html("{}{}", shown, more)


def _one(row: TaskLog) -> SafeString:
    badge = status_badge(row.status, occupies=row.occupies)
    text = _("%(name)s, task %(id)s") % {"name": row.job_name, "id": row.pk}
    return format_html("{} {}", link(task_url(row.pk), text), badge)


def _document(task: TaskLog, user: Any) -> Iterator[Relation]:
    if not task.document_type:
        return
    parts = (task.document_type, task.document_name, task.document_action)
    name = visible(" ".join(filter(None, parts)))
    url = _document_url(task, user)
    same = {"document_type": task.document_type, "document_name": task.document_name}
    tasks = admin_url("taskcontrol_tasklog_changelist", **same)
    yield (
        _("document"),
        format_html(
            "{} ({})", link(url, name) if url else name, link(tasks, _("its tasks"))
        ),
    )


def _document_url(task: TaskLog, user: Any) -> str:
    """Return the address of the document in admin, if it has a page there for ``user``."""
    try:
        model = apps.get_model(task.document_type)
    except (LookupError, ValueError):
        return ""
    app, name = model._meta.app_label, model._meta.model_name
    may = any(user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))
    if not may or not admin.site.is_registered(model):
        return ""
    try:
        return admin_url(f"{app}_{name}_change", task.document_name)
    except NoReverseMatch:
        return ""


def _schedule(task: TaskLog, user: Any) -> Iterator[Relation]:
    if not task.schedule:
        return
    name: SafeString | str = visible(task.schedule)
    if user.has_perm("taskcontrol.view_schedule"):
        rows = Schedule.objects.filter(name=task.schedule).values_list("pk", flat=True)
        key = rows.first()
        if key is not None:
            url = admin_url("taskcontrol_schedule_change", key)
            name = link(url, task.schedule)
    yield _("schedule"), name
