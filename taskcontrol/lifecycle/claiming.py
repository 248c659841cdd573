"""Queued -> Started: who is to run an attempt that came by message, and nobody else."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db.models import Exists, Q

from ..dialect import DatabaseNow
from ..models import TaskLog, Worker
from ..status import Status
from .arrows import Arrow, announced

#: What a worker needs of a claimed row.
CLAIMED = tuple(
    field.attname
    for field in TaskLog._meta.concrete_fields
    if field.name not in {"error_message", "debug_log", "result", "progress", "ready_lane"}
)


def claim(task_id: int, attempt: int, *, worker_id: int | None, pid: int) -> TaskLog | None:
    """Queued -> Started for this attempt; None when it is not (or no more) to be run.

    Nor when ``worker_id`` counts as gone: nobody would vouch for the body, and others have
    the worker's tasks. None is somebody who is no worker. Nor when another worker has
    claimed it as it was sent: the body may have begun there.
    """
    given = {"id": task_id, "attempt": attempt, "worker": worker_id, "pid": pid}
    won = announced(_claim(by_worker=worker_id is not None), given)
    return won[0] if won else None


@cache
def _claim(*, by_worker: bool) -> Arrow:
    def build(p: Any) -> Any:
        unexpired = Q(expires_at=None) | Q(expires_at__gt=DatabaseNow())
        rows = TaskLog.objects.filter(
            unexpired, pk=p("id", "id"), attempt=p("attempt", "attempt")
        )
        if by_worker:
            there = Worker.objects.filter(left_at=None, lost_at=None)
            rows = rows.filter(Exists(there.filter(pk=p("worker", "worker"))))
            rows = rows.filter(Q(worker=None) | Q(worker=p("worker", "worker")))
        else:
            rows = rows.filter(worker=None)
        return rows, {
            "started_at": DatabaseNow(),
            "worker": p("worker", "worker"),
            "pid": p("pid", "pid"),
        }

    return Arrow(Status.QUEUED, Status.STARTED, build, CLAIMED)
