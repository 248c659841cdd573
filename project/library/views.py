"""The front page of the site: what this is, the button, and the last batches."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST, require_safe

import taskcontrol
from taskcontrol.batches import counts_of
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.permissions import visible_to
from taskcontrol.registry import path_of
from taskcontrol.status import Status

from .models import SourceFile
from .tasks import index_library, rank_names, start_indexing

#: How many batches the front page shows.
SHOWN = 5
#: What is shown while it has not ended, and what it says before it began.
FOLLOWED = {
    path_of(index_library): "it will find the files",
    path_of(rank_names): "it will read all files",
}
#: The parts of a bar from left to right: what is done comes first.
PARTS = (
    Status.FINISHED,
    Status.FAILED,
    Status.CANCELED,
    Status.STARTED,
    Status.QUEUED,
    Status.PENDING,
    Status.PAUSED,
)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Welcome, and show the last batches that this person may see."""
    shown = list(visible_batches(request.user)[:SHOWN])
    numbers = counts_of(shown)
    batches = [summary(batch, numbers[batch.pk]) for batch in shown]
    single = list(
        visible_to(request.user).filter(method__in=FOLLOWED, ended_at=None)[:SHOWN]
    )
    context = {
        "totals": SourceFile.objects.aggregate(
            files=Count("id"),
            lines=Sum("lines", default=0),
            functions=Sum("functions", default=0),
            classes=Sum("classes", default=0),
        ),
        "single": [(task, told(task)) for task in single],
        "batches": batches,
        "running": single or not all(batch["ended"] for batch in batches),
        # What the page listens to; ids that people gave may hold spaces, ours do not.
        "watched": {
            "tasks": " ".join(task.name for task in single),
            "batches": " ".join(
                one["batch"].pk
                for one in batches
                if not one["ended"] and " " not in one["batch"].pk
            ),
        },
    }
    return render(request, "library/home.html", context)


@require_POST
@login_required
@permission_required("library.index_sourcefile", raise_exception=True)
def index_now(request: HttpRequest, back: str) -> HttpResponse:
    """Start the indexing, say where to follow it, and return to the page ``back``."""
    coordinator, batch_id = start_indexing()
    messages.success(
        request,
        format_html(
            'The indexing is on its way: <a href="{}">task {}</a> looks for the files and '
            'enqueues <a href="{}">one batch</a> with a task for each.',
            page_of(request, coordinator),
            coordinator.pk,
            members_page(request, batch_id),
        ),
    )
    return redirect(back)


@require_POST
@login_required
@permission_required("library.index_sourcefile", raise_exception=True)
def rank_now(request: HttpRequest) -> HttpResponse:
    """Start what takes a while, and say where to follow it."""
    task = taskcontrol.enqueue(rank_names, job_name="Rank the names")
    text = (
        '<a href="{}">Task {}</a> reads all files one after the other. One of its kind runs '
        "at a time: press again, and the next one waits for it."
    )
    messages.success(request, format_html(text, page_of(request, task), task.pk))
    return redirect("library:home")


def page_of(request: HttpRequest, task: TaskLog) -> str:
    """Return where this person looks at the own task: in admin, or outside of it."""
    staff = request.user.is_staff
    name = "admin:taskcontrol_tasklog_change" if staff else "taskcontrol:my_task"
    return reverse(name, args=[task.pk])


def members_page(request: HttpRequest, batch_id: str) -> str:
    """Return where this person looks at the tasks of the own batch."""
    if not request.user.is_staff:
        return reverse("taskcontrol:my_tasks")
    return f"{reverse('admin:taskcontrol_tasklog_changelist')}?batch_id={batch_id}"


def told(task: TaskLog) -> str:
    """Return what a task that has not ended says of itself."""
    said = task.progress or {}
    if said.get("total"):
        return f"{said['count']:,} of {said['total']:,} files"
    return str(said.get("message") or FOLLOWED[task.method])


def visible_batches(user: Any) -> Any:
    """Return the batches that ``user`` may see, newest first: their own, or all."""
    batches = TaskBatch.objects.order_by("-created_at")
    if user.has_perm("taskcontrol.view_taskbatch"):
        return batches
    return batches.filter(created_by=user.pk) if user.is_authenticated else batches.none()


def summary(batch: TaskBatch, numbers: Counter[str]) -> dict[str, Any]:
    """Return the bar of one batch and how much of it is done."""
    parts, start = [], 0
    for status in PARTS:
        if numbers[status]:
            parts.append((status, numbers[status], start))
            start += numbers[status]
    return {
        "batch": batch,
        "parts": parts,
        "done": numbers["done"],
        "ended": numbers["done"] >= batch.total,
    }
