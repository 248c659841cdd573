"""What the page of one task tells beside its columns: the error, the attempts, the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from ..audit import REASON_MAX
from ..explanation import explain
from ..models import TaskAttempt, TaskEvent, TaskLog, TaskType
from ..permissions import SENSITIVE
from ..status import Status
from ..text import last_line
from ..wording import duration
from .presentation import (
    EMPTY,
    ago,
    badge,
    link,
    memory,
    person,
    pretty,
    ran,
    related,
    retries,
    status_badge,
    time_tag,
    visible,
    waited,
)
from .taskverbs import buttons_for

#: Attempts and events that are shown, the newest.
MOST_SHOWN = 50


@dataclass(frozen=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    what: Any
    who: str = ""
    why: str = ""
    attempt: int | None = None

    @property
    def time(self) -> Any:
        """When it was, in full."""
        return time_tag(self.at)


@dataclass(frozen=True)
class Failure:
    """An error as it is shown: what happened first, the traceback when asked for."""

    line: str
    traceback: str


@dataclass(frozen=True)
class Run:
    """One attempt of the task."""

    row: Any
    badge: SafeString
    started: Any
    ran: str
    where: str
    memory: str
    reason: str
    failure: Failure | None
    log: str


def story_of(task: Any, user: Any) -> dict[str, Any]:
    """Return what the page shows of ``task`` to ``user``; without the permission, masked."""
    full = user.has_perm(SENSITIVE)
    attempts = list(
        TaskAttempt.objects.filter(task=task.pk)
        .select_related("worker")
        .order_by("-attempt")[:MOST_SHOWN]
    )
    asleep = not task.ended or task.occupies
    return {
        "badge": status_badge(task.status, occupies=task.occupies),
        "facts": _facts(task, user, attempts),
        "buttons": buttons_for(task, user),
        "reason_max": REASON_MAX,
        "reasons": [visible(reason.text) for reason in explain(task)] if asleep else [],
        "progress": progress_of(task),
        "failure": failure_of(task, full=full),
        "arguments": pretty(task.arguments, masked=not full) if task.arguments else "",
        "result": "" if task.result is None else pretty(task.result, masked=not full),
        "log": visible(task.debug_log) if full else "",
        "hidden": not full,
        "runs": [_run(row, task.read_at, full=full) for row in attempts],
        "timeline": _timeline(task, attempts),
    }


def _facts(task: Any, user: Any, attempts: list[TaskAttempt]) -> list[tuple[Any, Any]]:
    """Return the columns that say something, each with its name."""
    now, again_at = task.read_at, attempts[0].ended_at if attempts else None
    wait = waited(task, now, again_at)
    by = _("%(time)s by %(who)s") % {"time": "{}", "who": "{}"}
    facts = [
        (_("type"), type_link(task.method, user)),
        (_("queue"), visible(task.queue)),
        (_("created"), format_html(by, ago(task.created_at, now), _creator(task))),
        (_("not before"), task.run_at and time_tag(task.run_at)),
        (_("waited"), wait is not None and duration(wait)),
        (_("ran"), ran(task, now)),
        (_("attempt"), ", ".join(filter(None, (str(task.attempt), retries(task))))),
        (_("retry due"), task.retry_at and ago(task.retry_at, now)),
        (_("worker"), _where(task)),
        (_("peak memory"), memory(task.peak_memory_usage)),
        (_("timeout"), duration(task.timeout)),
        (_("batch"), task.batch_id and batch_link(task.batch_id)),
        (_("document"), _document(task)),
        (_("reason of the end"), visible(task.ended_reason)),
    ]
    return [(name, value) for name, value in facts if value and value != EMPTY]


def type_link(method: str, user: Any) -> SafeString | str:
    """Return the method, as a link to its type for those who may see types."""
    key = None
    if user.has_perm("taskcontrol.view_tasktype"):
        key = TaskType.objects.filter(method=method).values_list("pk", flat=True).first()
    if key is None:
        return visible(method)
    return link(reverse("admin:taskcontrol_tasktype_change", args=[key]), method)


def batch_link(batch_id: str) -> SafeString:
    """Return a batch's id as a link to its members."""
    url = reverse("admin:taskcontrol_tasklog_changelist")
    return link(f"{url}?{urlencode({'batch_id': batch_id})}", batch_id)


def _where(task: TaskLog) -> str:
    if task.worker_id is None:
        return ""
    worker = related(task, "worker") or _("worker %(id)s (gone)") % {"id": task.worker_id}
    return visible(f"{worker}, {task.pid}" if task.pid else worker)


def _document(task: TaskLog) -> str:
    parts = (task.document_type, task.document_name, task.document_action)
    return visible(" ".join(filter(None, parts)))


def progress_of(task: Any) -> dict[str, Any] | None:
    """Return how far a running task says it is, as a bar takes it; None when it says nothing."""
    said = task.progress
    if task.status != Status.STARTED or not isinstance(said, dict):
        return None
    count: Any = said.get("count")
    total: Any = said.get("total")
    known = _is_number(count) and _is_number(total) and total > 0
    text = said.get("description") or said.get("message") or ""
    return {
        "value": min(count, total) if known else None,
        "max": total,
        "numbers": f"{count:,} / {total:,}" if known else "",
        "text": visible(text),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def failure_of(row: Any, *, full: bool) -> Failure | None:
    """Return the error of a task or an attempt; its traceback only with the permission."""
    if not row.error_message:
        return None
    text = visible(row.error_message)
    return Failure(last_line(text), text if full else "")


def _run(row: TaskAttempt, now: datetime, *, full: bool) -> Run:
    return Run(
        row=row,
        badge=status_badge(row.status),
        started=ago(row.started_at, now),
        ran=ran(row, now),
        where=visible(row.worker or ""),
        reason=visible(row.ended_reason),
        memory=memory(row.peak_memory_usage),
        failure=failure_of(row, full=full),
        log=visible(row.debug_log) if full else "",
    )


def _timeline(task: TaskLog, attempts: list[TaskAttempt]) -> list[Moment]:
    newest = TaskEvent.objects.filter(task=task.pk).select_related("actor").order_by("-id")
    lines = [
        Moment(task.created_at, badge(_("created"), "created"), _creator(task)),
        *(line for row in (*attempts, task) for line in _own_times(row)),
        *(_of_event(event) for event in newest[:MOST_SHOWN]),
    ]
    return sorted(lines, key=lambda line: line.at)


def _creator(task: TaskLog) -> str:
    return person(task.creator, task.created_by_id)


def _own_times(row: Any) -> Iterator[Moment]:
    """Yield what the times of a task or an attempt tell; cancels are told by their events."""
    number = row.attempt
    if row.queued_at:
        yield Moment(row.queued_at, status_badge(Status.QUEUED), attempt=number)
    if row.started_at:
        worker = related(row, "worker")
        where = visible(worker) if worker else ""
        yield Moment(row.started_at, status_badge(Status.STARTED), where, attempt=number)
    if row.ended_at and row.status != Status.CANCELED:
        why = last_line(row.error_message) or row.ended_reason
        yield Moment(
            row.ended_at, status_badge(row.status), why=visible(why), attempt=number
        )


def _of_event(event: TaskEvent) -> Moment:
    return Moment(
        event.at,
        badge(event.get_kind_display(), (event.new or "event").lower()),
        person(event.actor, event.actor_id),
        visible(event.detail),
        event.attempt or None,
    )
