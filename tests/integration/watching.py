"""What scenarios wait for: rows, processes, and the end of what was enqueued."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psutil

from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.waiting import eventually


def row(task: Any) -> TaskLog:
    """Return the row of ``task`` as it is now."""
    found: TaskLog = TaskLog.objects.get(pk=getattr(task, "pk", task))
    return found


def story(task: Any) -> str:
    """Return what the database says of a task, for the message of a failed test."""
    now = TaskLog.objects.filter(pk=getattr(task, "pk", task)).values().first() or {}
    told = {
        name: value for name, value in now.items() if value not in (None, "", {}, False)
    }
    events = TaskEvent.objects.filter(task=now.get("id")).values_list("kind", "detail")
    return f"{told}\nevents: {list(events)}"


def reached(
    find: Callable[[], TaskLog | None], timeout: float, why: Callable[[], str]
) -> TaskLog:
    """Return the row when it is found."""
    found = eventually(find, timeout, why=why)
    assert found is not None
    return found


def has_status(task: Any, *statuses: Status, timeout: float = 20) -> TaskLog:
    """Return the row when it stands in one of ``statuses``."""
    return reached(
        lambda: next((now for now in [row(task)] if now.status in statuses), None),
        timeout,
        why=lambda: story(task),
    )


def ended(task: Any, timeout: float = 20) -> TaskLog:
    """Return the row when the task has ended and nobody holds its place."""
    return reached(
        lambda: TaskLog.objects.ended().filter(pk=task.pk, occupies=False).first(),
        timeout,
        why=lambda: story(task),
    )


def all_ended(tasks: Iterable[Any], timeout: float = 60) -> list[TaskLog]:
    """Return the rows, by key, when every task has ended and no place is held."""
    ids = [task.pk for task in tasks]
    rows = TaskLog.objects.filter(pk__in=ids)
    eventually(
        lambda: rows.filter(occupies=False).ended().count() == len(ids),
        timeout,
        every=0.1,
        why=lambda: "\n".join(
            story(pk) for pk in ids if not row(pk).ended or row(pk).occupies
        )[:5000],
    )
    return list(rows.order_by("pk"))


def free(task: Any, timeout: float = 20) -> TaskLog:
    """Return the row when nobody holds the place of ``task`` any more."""
    return reached(
        lambda: TaskLog.objects.filter(pk=task.pk, occupies=False).first(),
        timeout,
        why=lambda: story(task),
    )


def kinds(task: Any) -> list[str]:
    """Return what happened to a task beside the undisturbed road."""
    events = TaskEvent.objects.filter(task=task.pk).order_by("pk")
    return [str(kind) for kind in events.values_list("kind", flat=True)]


def is_alive(pid: int) -> bool:
    """Return whether the process ``pid`` runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
