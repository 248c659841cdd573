"""Rows for tests, each complete: what the constraints demand of a status is filled in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import Permission, User
from django.utils import timezone

from taskcontrol.lanes import lane_of
from taskcontrol.models import TaskBatch, TaskLog, TaskType, Worker
from taskcontrol.status import ACTIVE, TERMINAL, Status

_number = count(1)


def seconds_ago(seconds: float) -> datetime:
    """Return the time ``seconds`` before now; negative ones lie ahead."""
    return timezone.now() - timedelta(seconds=seconds)


def make_task(status: Status | str = Status.PENDING, **columns: Any) -> TaskLog:
    """Store a task that stands in ``status`` as if it had come there by the road."""
    status = Status(status)
    columns.setdefault("method", "tests.tasks.nothing")
    columns.setdefault("job_name", columns["method"])
    columns.setdefault("queue", "default")
    columns.setdefault(
        "lane", lane_of(columns["queue"], columns["method"], columns.get("priority"))
    )
    for column, value in _history(status, columns).items():
        columns.setdefault(column, value)
    return TaskLog.objects.create(status=status, **columns)


def _history(status: Status, columns: dict[str, Any]) -> dict[str, Any]:
    if status is Status.PENDING:
        run_at = columns.get("run_at")
        waits = columns.get("occupies") or (run_at and run_at > timezone.now())
        return {} if waits else {"ready_lane": columns["lane"]}
    if status is Status.PAUSED:
        return {}
    attempt = columns.get("attempt", 1)
    values: dict[str, Any] = {
        "attempt": attempt,
        "queued_at": seconds_ago(3),
        "sent_at": seconds_ago(3),
        "celery_task_id": f"test-{next(_number)}-{attempt}",
        "occupies": status in ACTIVE,
    }
    if status is not Status.QUEUED:
        values |= {"started_at": seconds_ago(2), "pid": os.getpid()}
    if status in TERMINAL:
        values |= {"ended_at": seconds_ago(1), "time_taken": timedelta(seconds=1)}
    return values


def make_type(method: str = "tests.tasks.nothing", **columns: Any) -> TaskType:
    """Store a task type."""
    return TaskType.objects.create(method=method, **columns)


def make_batch(batch_id: str = "b", **columns: Any) -> TaskBatch:
    """Store a batch that may have members which have not ended."""
    return TaskBatch.objects.create(
        id=batch_id, **{"open_since": seconds_ago(60), **columns}
    )


def make_worker(
    queues: Sequence[str] = ("short", "default", "long"), pool_size: int = 2, **columns: Any
) -> Worker:
    """Store a worker that has just given a sign of life; no process stands behind it."""
    columns.setdefault("hostname", f"test-{next(_number)}@here")
    columns.setdefault("pid", os.getpid())
    columns.setdefault("pool", "prefork")
    return Worker.objects.create(queues=list(queues), pool_size=pool_size, **columns)


def make_user(name: str = "", *permissions: str, **columns: Any) -> User:
    """Store a user with some permissions of taskcontrol, named by their codenames."""
    user = User.objects.create_user(name or f"user-{next(_number)}", **columns)
    for codename in permissions:
        user.user_permissions.add(
            Permission.objects.get(codename=codename, content_type__app_label="taskcontrol")
        )
    return user
