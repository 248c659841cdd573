"""What a task leaves behind: the attempt that ends, and who did what to it and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connections

from .conf import conf
from .dialect import now
from .models import TaskAttempt, TaskEvent, TaskLog
from .status import Status
from .text import clipped

#: What a row forgets when it is to run again; the attempt that ends keeps it.
CLEARED: dict[str, Any] = {
    "started_at": None,
    "ended_at": None,
    "queued_at": None,
    "retry_at": None,
    "time_taken": None,
    "peak_memory_usage": None,
    "error_message": "",
    "debug_log": "",
    "ended_reason": "",
    "celery_task_id": None,
    "cancel_requested_at": None,
    "canceled_by": None,
    "result": None,
    "progress": None,
    "sent_count": 0,
    "sent_at": None,
}


def archive(ids: Sequence[int], *, ended_reason: str = "") -> None:
    """Keep what the rows say of the attempt that ends, before they are cleared.

    ``ended_reason`` is given where the row itself does not say it: a lost run, which
    counts as failed. Rows whose attempt never began leave nothing.
    """
    if not ids:
        return
    quote = connections[conf.DATABASE].ops.quote_name
    same = [
        "celery_task_id",
        "attempt",
        "worker_id",
        "pid",
        "queued_at",
        "started_at",
        "time_taken",
        "peak_memory_usage",
        "error_message",
        "debug_log",
    ]
    lost = bool(ended_reason)
    columns = [*same, "task_id", "status", "ended_at", "ended_reason"]
    status, ended_at = ("%s", "COALESCE(ended_at, %s)") if lost else ("status", "ended_at")
    values = [*same, "id", status, ended_at, "%s" if lost else "ended_reason"]
    marks = ", ".join(["%s"] * len(ids))
    sql = (
        f"INSERT INTO {quote(TaskAttempt._meta.db_table)} ({', '.join(columns)}) "  # noqa: S608
        f"SELECT {', '.join(values)} FROM {quote(TaskLog._meta.db_table)} "
        f"WHERE started_at IS NOT NULL AND id IN ({marks})"
    )
    given: list[Any] = []
    if lost:
        given = [Status.FAILED, _adapted_now(), clipped(ended_reason, 300)]
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(sql, [*given, *ids])


def _adapted_now() -> Any:
    connection = connections[conf.DATABASE]
    return connection.ops.adapt_datetimefield_value(now(conf.DATABASE))


def record(
    tasks: Iterable[TaskLog],
    kind: TaskEvent.Kind,
    *,
    actor: Any = None,
    old: str = "",
    new: str = "",
    detail: str = "",
) -> None:
    """Write one TaskEvent for each task, in the transaction of its move."""
    TaskEvent.objects.bulk_create(
        TaskEvent(
            task_id=task.pk,
            kind=kind,
            actor_id=getattr(actor, "pk", None),
            old=old,
            new=new,
            attempt=task.attempt,
            detail=clipped(detail, 500),
        )
        for task in tasks
    )
