"""Loops over chunks on a real worker: killed in the middle, canceled in the middle."""

from __future__ import annotations

import os
import signal
from collections import Counter as Count

import taskcontrol
from taskcontrol.models import TaskLog
from tests import tasks
from tests.models import Counter
from tests.waiting import eventually

NAMES = [f"bad {n}" if n in {2, 5} else f"item {n}" for n in range(10)]


def waiting_line(record):
    (line,) = eventually(lambda: record.lines("waits"), timeout=30)
    return line


def test_after_a_sigkill_the_next_attempt_goes_on_behind_the_last_chunk(worker, record):
    task = taskcontrol.enqueue(tasks.make_counters, names=NAMES, size=2, wait_in="bad 5")
    os.kill(waiting_line(record)["pid"], signal.SIGKILL)
    eventually(lambda: TaskLog.objects.filter(pk=task.pk, status="Finished"), timeout=40)

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.attempt, row.result) == (2, {"ok": 8, "failed": 2, "total": 10})
    assert row.progress == {"count": 10, "total": 10, "description": "2 failed"}
    # The third chunk was not committed when its process was killed, so it came again.
    begun = Count(item for line in record.lines("chunk") for item in line["items"])
    assert {name for name, times in begun.items() if times == 2} == {"item 4", "bad 5"}
    written = list(Counter.objects.order_by("name").values_list("name", flat=True))
    assert written == [name for name in NAMES if not name.startswith("bad")]


def test_a_canceled_loop_keeps_its_finished_chunks_and_a_retry_goes_on_p6(worker, record):
    task = taskcontrol.enqueue(tasks.make_counters, names=NAMES, size=5, wait_at="item 7")
    waiting_line(record)
    eventually(lambda: (TaskLog.objects.get(pk=task.pk).progress or {}).get("count") == 5)
    assert taskcontrol.cancel(task)
    eventually(lambda: not TaskLog.objects.get(pk=task.pk).occupies, timeout=20)
    assert Counter.objects.count() == 4

    taskcontrol.retry(task)
    eventually(lambda: TaskLog.objects.filter(pk=task.pk, status="Finished"), timeout=20)

    assert len(record.lines("chunk", items=NAMES[:5])) == 1
    assert TaskLog.objects.get(pk=task.pk).result == {"ok": 8, "failed": 2, "total": 10}
    assert Counter.objects.count() == 8
