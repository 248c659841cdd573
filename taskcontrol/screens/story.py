"""What the page of one task tells beside its columns: the error, the attempts, the timeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from ..audit import REASON_MAX
from ..explanation import WORTH_TELLING, explain
from ..models import QueueState, TaskAttempt, TaskEvent, TaskLog, TaskType
from ..permissions import SENSITIVE
from ..progress import said_of, seconds_left
from ..status import WAITING, Status
from ..text import last_line
from ..waits import where_it_went
from ..wording import duration
from .addresses import admin_url
from .copyform import PAGE as EDIT, may_edit
from .presentation import (
    EMPTY,
    ago,
    badge,
    brief,
    dotted,
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
from .reasons import Slice, page_link, show, slices_of
from .relations import relations_of
from .sparkline import sparkline_of
from .taskverbs import buttons_for

#: Attempts and events that are shown, the newest.
MOST_SHOWN = 50
#: Seconds between two lines of the timeline that are worth a word.
LEAST_GAP = 0.1


@dataclass(frozen=True)
class Moment:
    """One line of the timeline."""

    at: datetime
    what: Any
    who: str = ""
    why: str = ""
    attempt: int | None = None
    #: How long after the line before it.
    gap: str = ""

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
        "edit": _edit_url(task) if may_edit(task, user) else "",
        "reasons": show(explain(task), task, user, task.read_at) if asleep else [],
        "waiting": task.status in WAITING or task.retry_at is not None,
        "going_on": asleep,
        "wait": _wait(task),
        "relations": relations_of(task, user),
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
        (_("its last runs"), sparkline_of(task, user)),
        (_("queue"), _queue(task, user)),
        (_("created"), format_html(by, ago(task.created_at, now), _creator(task))),
        (_("not before"), task.run_at and time_tag(task.run_at)),
        (_("waited"), wait is not None and duration(wait)),
        (_("ran"), ran(task, now)),
        (_("attempt"), ", ".join(filter(None, (str(task.attempt), retries(task))))),
        (_("retry due"), task.retry_at and ago(task.retry_at, now)),
        (_("worker"), _where(task, user)),
        (_("peak memory"), memory(task.peak_memory_usage)),
        (_("timeout"), duration(task.timeout)),
        (_("reason of the end"), visible(task.ended_reason)),
    ]
    return [(name, value) for name, value in facts if value and value != EMPTY]


def type_link(method: str, user: Any) -> SafeString | str:
    """Return the method, as a link to its type for those who may see types."""
    key = None
    if user.has_perm("taskcontrol.view_tasktype"):
        key = TaskType.objects.filter(method=method).values_list("pk", flat=True).first()
    if key is None:
        return dotted(method)
    url = admin_url("taskcontrol_tasktype_change", key)
    return format_html('<a href="{}">{}</a>', url, dotted(method))


def _edit_url(task: TaskLog) -> str:
    return admin_url(f"taskcontrol_tasklog_{EDIT}", task.pk)


def _wait(task: Any) -> list[Slice]:
    """Return where the wait went, if there was one worth telling."""
    parts = where_it_went(task, task.read_at)
    return slices_of(parts) if sum(part.seconds for part in parts) >= WORTH_TELLING else []


def _queue(task: TaskLog, user: Any) -> SafeString | str:
    return page_link(QueueState, user, task.queue, name=task.queue) or visible(task.queue)


def _where(task: TaskLog, user: Any) -> SafeString | str:
    if task.worker_id is None:
        return ""
    worker = related(task, "worker")
    shown: Any = visible(worker or _("worker %(id)s (gone)") % {"id": task.worker_id})
    if worker and user.has_perm("taskcontrol.view_worker"):
        shown = link(admin_url("taskcontrol_worker_change", worker.pk), worker)
    told = _("%(worker)s, process %(pid)s") % {"worker": "{}", "pid": "{}"}
    return format_html(told, shown, task.pid) if task.pid else shown


def progress_of(task: Any) -> dict[str, Any] | None:
    """Return how far a running task says it is, as a bar takes it; None when it says nothing."""
    if task.status != Status.STARTED or not isinstance(task.progress, dict):
        return None
    said = said_of(task.progress)
    bar: dict[str, Any] = {"value": None, "max": None, "numbers": ""}
    if said.count is not None and said.total:
        numbers = _numbers(said.count, said.total)
        bar = {"value": min(said.count, said.total), "max": said.total, "numbers": numbers}
    left = seconds_left(said, task.started_at, task.read_at)
    told = "" if left is None else _("%(time)s left") % {"time": brief(left)}
    return {**bar, "left": told, "text": visible(said.text)}


def _numbers(count: float, total: float) -> str:
    if count > total:
        told = _("%(count)s (expected %(total)s)")
        return told % {"count": f"{count:,}", "total": f"{total:,}"}
    return f"{count:,} / {total:,}"


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
        Moment(task.created_at, badge(_("Created"), "created"), _creator(task)),
        *(line for row in (*attempts, task) for line in _own_times(row)),
        *(_of_event(event) for event in newest[:MOST_SHOWN]),
    ]
    lines.sort(key=lambda line: line.at)
    earlier = [None, *(line.at for line in lines)]
    return [
        replace(line, gap=_gap(before, line.at))
        for line, before in zip(lines, earlier, strict=False)
    ]


def _gap(before: datetime | None, at: datetime) -> str:
    seconds = 0.0 if before is None else (at - before).total_seconds()
    return f"+{duration(seconds)}" if seconds >= LEAST_GAP else ""


def _creator(task: TaskLog) -> str:
    return person(task.creator, task.created_by_id)


def _own_times(row: Any) -> Iterator[Moment]:
    """Yield what the times of a task or an attempt tell; cancels are told by their events."""
    number = row.attempt
    if row.queued_at:
        # What began tells its worker there, whoever had claimed it.
        where = _worker_of(row) if row.status == Status.QUEUED else ""
        yield Moment(row.queued_at, status_badge(Status.QUEUED), where, attempt=number)
    if row.started_at:
        where = _worker_of(row)
        yield Moment(row.started_at, status_badge(Status.STARTED), where, attempt=number)
    if row.ended_at and row.status != Status.CANCELED:
        why = last_line(row.error_message) or row.ended_reason
        yield Moment(
            row.ended_at, status_badge(row.status), why=visible(why), attempt=number
        )


def _worker_of(row: Any) -> str:
    worker = related(row, "worker")
    return visible(worker) if worker else ""


def _of_event(event: TaskEvent) -> Moment:
    return Moment(
        event.at,
        badge(capfirst(event.get_kind_display()), (event.new or "event").lower()),
        person(event.actor, event.actor_id),
        visible(event.detail),
        event.attempt or None,
    )
