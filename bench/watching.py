"""Publishes changes of a task to pages: ``python -m bench.watching URL PAGES N GAP``.

A page is late by the time from the commit of a change to the first news of it or of a later one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable
from functools import partial
from typing import Any

Heard = list[tuple[int, float]]


def watched_task() -> tuple[Any, str]:
    """Return a task that nothing runs, and what a page without a login asks to watch it."""
    from bench import bodies
    from taskcontrol import enqueue
    from taskcontrol.live.asking import watch_token

    task = enqueue(bodies.noop, paused=True)
    return task, f"tasks={task.pk}&tokens={watch_token(task)}"


def publish(task: Any, number: int, gap: float) -> list[tuple[int, float]]:
    """Change the task again and again; return its revisions with the time of each commit."""
    from django.db import transaction

    from taskcontrol.models import TaskLog
    from taskcontrol.pokes import poke_after_commit

    stamps: list[tuple[int, float]] = []
    first = TaskLog.objects.get(pk=task.pk).rev + 1
    due = time.monotonic()
    for rev in range(first, first + number):
        with transaction.atomic():
            TaskLog.objects.filter(pk=task.pk).update(rev=rev, progress={"count": rev})
            transaction.on_commit(partial(_stamp, stamps, rev))
            poke_after_commit([task])
        due += gap
        time.sleep(max(0.0, due - time.monotonic()))
    return stamps


def _stamp(stamps: list[tuple[int, float]], rev: int) -> None:
    stamps.append((rev, time.monotonic()))


def lateness(stamps: Iterable[tuple[int, float]], pages: Iterable[Heard]) -> list[float]:
    """Return how late each page was with each change; endless for what it never heard."""
    late = []
    for heard in pages:
        revisions = [rev for rev, _ in heard]
        for rev, at in stamps:
            place = bisect_left(revisions, rev)
            late.append(heard[place][1] - at if place < len(heard) else float("inf"))
    return sorted(late)


def main() -> None:
    """Measure; print the percentiles."""
    import django

    django.setup()
    url, pages, number, gap = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    task, asked = watched_task()
    command = [
        sys.executable,
        "-m",
        "bench.crowd",
        f"{url}/taskcontrol/live/stream?{asked}",
    ]
    with subprocess.Popen(
        [*command, pages], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as crowd:
        if crowd.stdin is None or crowd.stdout is None:
            raise RuntimeError("no pipes")
        crowd.stdout.readline()
        publish(task, WARM, gap)
        stamps = publish(task, number, gap)
        time.sleep(2)
        crowd.stdin.close()
        late = lateness(stamps, json.loads(crowd.stdout.readline()))
    took = {name: late[int(len(late) * part)] for name, part in PARTS.items()}
    sys.stdout.write(json.dumps(took) + "\n")


#: Changes before those that count: a poke that Redis did not take ends all for 5 seconds.
WARM = 70
PARTS = {"p50": 0.5, "p99": 0.99, "worst": 0.9999}

if __name__ == "__main__":
    main()
