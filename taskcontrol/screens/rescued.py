"""What was taken from a worker that is gone, and what became of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Count

from ..models import TaskAttempt, TaskLog
from ..status import Status
from .addresses import admin_url
from .presentation import ago, link, status_badge, visible
from .tasklists import HEAVY

#: Tasks that the page of a worker shows.
MOST_SHOWN = 100
#: After its worker was lost a task that was lost too often fails within this time.
FAILS_WITHIN = timedelta(hours=1)


def numbers_rescued(workers: list[int]) -> dict[int, int]:
    """Return how many runs were taken from each of these workers and made again."""
    rows = _lost_runs().filter(worker__in=workers).order_by()
    counted = rows.values("worker").annotate(n=Count("pk"))
    return {row["worker"]: row["n"] for row in counted}


def rescued_from(worker: Any) -> list[dict[str, Any]]:
    """Return the tasks that this worker lost, as its page shows them, the newest first."""
    runs = list(_lost_runs().filter(worker=worker.pk).order_by("-pk")[:MOST_SHOWN])
    tasks = TaskLog.objects.defer(*HEAVY).in_bulk([run.task_id for run in runs])
    again = [_line(tasks.get(run.task_id), run, worker) for run in runs]
    return [*(_line(task, task, worker) for task in _failed_with(worker)), *again]


def _lost_runs() -> Any:
    """A run that failed by itself has an error; one that was taken away only a reason."""
    runs = TaskAttempt.objects.exclude(ended_reason="")
    return runs.filter(status=Status.FAILED, error_message="")


def _failed_with(worker: Any) -> Any:
    """Those that were lost too often failed instead, and still name the worker."""
    if worker.lost_at is None:
        return []
    window = (worker.lost_at, worker.lost_at + FAILS_WITHIN)
    rows = TaskLog.objects.filter(
        ended_at__range=window, worker=worker.pk, status=Status.FAILED, lost_count__gt=0
    )
    return rows.defer(*HEAVY).order_by("-ended_at")[:MOST_SHOWN]


def _line(task: Any, run: Any, worker: Any) -> dict[str, Any]:
    """``run`` is the attempt that was lost: an earlier one, or the task's own."""
    key = run.pk if run is task else run.task_id
    url = admin_url("taskcontrol_tasklog_change", key)
    return {
        "link": link(url, task.job_name) if task is not None else visible(key),
        "attempt": run.attempt,
        "why": visible(run.ended_reason),
        "at": ago(run.ended_at, worker.read_at),
        "badge": status_badge(task.status, occupies=task.occupies) if task else "",
    }
