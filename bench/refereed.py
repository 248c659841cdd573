"""What the referee costs the database: ``python -m bench.refereed``; each task's whole road."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import defaultdict
from typing import Any

from bench.stage import Stage, make_directory

TASKS, ROUNDS, PAGE = 2000, 5, 100
MODES = ("none", "record", "raise")
METHOD = "bench.bodies.nothing"


def main() -> None:
    """Build the stage and measure on it, in a process of the site."""
    if os.environ.get("DJANGO_SETTINGS_MODULE") == "bench.settings":
        measure()
        return
    directory = make_directory()
    try:
        with Stage(directory) as stage:
            sys.stdout.write(stage.run(sys.executable, "-m", "bench.refereed"))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def measure() -> None:
    """Walk the road without the referee, with one that records, with one that refuses."""
    import django

    django.setup()
    costs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(ROUNDS):
        for mode in MODES:
            switch(mode)
            costs[mode].append(walk())
    none = min(cpu for cpu, _ in costs["none"])
    for mode, found in costs.items():
        cpu, wall = (min(one) * 1e6 / TASKS for one in zip(*found, strict=True))
        more = cpu - none * 1e6 / TASKS
        line = f"{mode:6}  {cpu:4.0f} us CPU per task (+{more:.0f})  {wall:4.0f} us in all"
        sys.stdout.write(f"{line}\n")


def switch(mode: str) -> None:
    """Install the referee in a mode, or remove it."""
    from taskcontrol import referee

    referee.remove() if mode == "none" else referee.install(referee.Mode(mode))


def walk() -> tuple[float, float]:
    """Send, claim and end every task; return CPU seconds of the database, and seconds."""
    from taskcontrol import lifecycle

    ids = waiting_tasks()
    backend = backend_process()
    used, began = sum(backend.cpu_times()[:2]), time.perf_counter()
    for start in range(0, TASKS, PAGE):
        for task in lifecycle.promote(ids[start : start + PAGE], site="bench"):
            lifecycle.claim(task.pk, task.attempt, worker_id=None, pid=1)
            lifecycle.finish(task.pk, task.attempt, result=None, debug_log="")
    took = time.perf_counter() - began
    return sum(backend.cpu_times()[:2]) - used, took


def waiting_tasks() -> list[int]:
    """Store the tasks, of a type with a limit, in a table that is vacuumed."""
    from django.db import connection

    from taskcontrol.lanes import lane_of
    from taskcontrol.models import TaskLog, TaskType

    defaults = {"concurrency_limit": 2 * PAGE}
    TaskType.objects.update_or_create(method=METHOD, defaults=defaults)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE taskcontrol_tasklog")
    lane = lane_of("default", METHOD, None)
    rows = [
        TaskLog(method=METHOD, job_name=METHOD, lane=lane, ready_lane=lane)
        for _ in range(TASKS)
    ]
    TaskLog.objects.bulk_create(rows)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE taskcontrol_tasklog")
    return [row.pk for row in rows]


def backend_process() -> Any:
    """Return the process of the database that serves this connection."""
    import psutil
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return psutil.Process(cursor.fetchone()[0])


if __name__ == "__main__":
    main()
