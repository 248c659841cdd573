"""A site in the middle of its work: a row of each kind and state for every screen."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import taskcontrol
from taskcontrol import dialect, incidents, schedules
from taskcontrol.models import (
    Lock,
    QueueState,
    Rollup,
    TaskAttempt,
    TaskEvent,
    TaskLog,
    TaskType,
    WaitInterval,
)
from taskcontrol.rollup import floor_to
from tests import tasks
from tests.factories import make_batch, make_task, make_type, make_worker, seconds_ago

METHOD = "tests.tasks.add"
TRACE = 'Traceback (most recent call last):\n  File "tasks.py", line 6\nValueError: no PDF'
NAME = "Index_a_file_whose_name_is_long_and_has_no_space_in_it_" * 3


def furnish(user: Any) -> dict[str, Any]:
    """Store it all; return the rows that have a page, by name."""
    rows = _machinery()
    rows |= _tasks(user, rows["worker"])
    _story(rows["failed"], user)
    _charts()
    incidents.report(incidents.Kind.LOST, NAME, task_id=rows["queued"].pk, repair=NAME)
    incidents.report(incidents.Kind.ZOMBIE, "a late end", repair="refused", over=True)
    taskcontrol.toggle_dispatcher(False, reason="a new release", user=user)
    return rows


def _machinery() -> dict[str, Any]:
    declared = {"concurrency_limit": 1, "priority": 0}
    of_type = make_type(METHOD, concurrency_limit=2, is_standard=True, usual_seconds=2.0)
    TaskType.objects.filter(pk=of_type.pk).update(declared=declared)
    schedule = schedules.create(tasks.fail, cron="30 3 * * mon-fri", name="nightly")
    schedules.create(tasks.nothing, every=60, name="late", enabled=False)
    queue = {"paused_at": seconds_ago(60), "paused_reason": "month end"}
    children = [{"pid": 7, "memory_kb": 70_000}, {"pid": 8, "memory_kb": 71_000}]
    return {
        "tasktype": of_type,
        "schedule": schedule,
        "queue": QueueState.objects.update_or_create(name="long", defaults=queue)[0],
        "worker": make_worker(memory_kb=90_000, cpu_percent=3.5, children=children),
        "lost": make_worker(["short"], lost_at=seconds_ago(30)),
        "left": make_worker(leaving_at=seconds_ago(9), left_at=seconds_ago(5)),
        "batch": make_batch("b", title="The library", total=9),
    }


def _tasks(user: Any, worker: Any) -> dict[str, TaskLog]:
    given = {
        "method": METHOD,
        "arguments": {"left": 1, "right": "two", "password": "x"},
        "created_by": user,
        "batch_id": "b",
    }
    runs = {**given, "worker": worker, "pid": 7}
    return {
        "pending": make_task(**given, job_name=NAME, priority=4),
        "later": make_task(**given, run_at=seconds_ago(-900)),
        "paused": make_task("Paused", **given, queue="long"),
        "queued": make_task("Queued", **given),
        "started": make_task(
            "Started",
            **runs,
            job_name=NAME,
            progress={"count": 3, "total": 12, "description": "pages"},
        ),
        "unknown": make_task("Started", **runs, progress={"message": "reading"}),
        "finished": make_task("Finished", **runs, result={"sum": 3}, debug_log="added"),
        "failed": make_task(
            "Failed", **runs, attempt=2, error_message=TRACE, debug_log="1 + two"
        ),
        "retrying": make_task(
            "Failed", **runs, error_message=TRACE, retry_at=seconds_ago(-60), max_retries=3
        ),
        "canceled": make_task(
            "Canceled", **runs, canceled_by=user, ended_reason="not needed"
        ),
        "stopping": make_task("Canceled", **runs, occupies=True),
        "run": make_task("Failed", schedule="nightly", method="tests.tasks.fail"),
    }


def _story(task: TaskLog, user: Any) -> None:
    """Give a task a first attempt, waits, acts of people and something that it made."""
    TaskAttempt.objects.create(
        task=task,
        attempt=1,
        status="Failed",
        queued_at=seconds_ago(60),
        started_at=seconds_ago(59),
        ended_at=seconds_ago(58),
        time_taken=timedelta(seconds=1),
        error_message=TRACE,
    )
    TaskLog.objects.filter(pk=task.pk).update(created_at=seconds_ago(90))
    span = {"from_at": seconds_ago(80), "to_at": seconds_ago(70)}
    WaitInterval.objects.create(scope="limit", key=METHOD, **span)
    TaskEvent.objects.create(
        task=task, kind="retried", actor=user, old="Failed", new="Pending", attempt=1
    )
    Lock.objects.create(
        key="the ledger", task=task, holder="a person", expires_at=seconds_ago(-60)
    )
    make_task(parent=task, job_name="a copy")


def _charts() -> None:
    start = floor_to(dialect.now("default"), 1) - timedelta(minutes=3)
    counted = {"finished": 3, "failed": 1, "canceled": 1}
    for method, queue in (("", ""), (METHOD, "default")):
        Rollup.objects.create(
            start=start,
            method=method,
            queue=queue,
            **counted,
            waits={"20": 5},
            runs={"40": 5},
            run_seconds=4.0,
        )
