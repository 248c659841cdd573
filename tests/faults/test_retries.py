"""P7: automatic retries are counted once, whoever sweeps, and a crash has a budget of its own."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import suppress

import pytest

import taskcontrol
from taskcontrol import memory
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.status import Status
from tests.faults import racing
from tests.faults.figures import figure
from tests.faults.herd import Herd
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended, kinds
from tests.lab import LAB
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

COUNT = sized(200, 2_000)
SWEEPERS = 4
SLOTS = 4
#: Tasks of each kind that crash.
CRASHES = sized(2, 25)
#: Crashes after which a task fails for good: few, so that the test is short.
LOST_LIMIT = 2
CONF = {"LOST_LIMIT": LOST_LIMIT, "RESEND_AFTER": 2.0}


def test_retries_are_counted_once_whoever_sweeps_p7(start_worker, record):
    dice = random.Random(SEED)
    numbers = [dice.randrange(4) for _ in range(COUNT)]
    with Herd("sweep", SWEEPERS, SEED) as herd:
        worker = start_worker(concurrency=SLOTS, conf=CONF)
        taskcontrol.bulk_enqueue(
            {"method": racing.fail_counted, "max_retries": number, "retry_delay": 0}
            for number in numbers
        )
        kills = 0
        ended = TaskLog.objects.ended()
        while ended.count() < COUNT:
            done = ended.count()
            eventually(
                lambda done=done: ended.count() >= min(done + COUNT // 10, COUNT),
                sized(60, 300),
                every=0.1,
                why=worker.process.tail,
            )
            herd.kill_one(dice)
            kills += 1
        always(lambda: ended.count() == COUNT, 1)

    starts = Counter(line["task"] for line in record.lines("started"))
    rows = list(TaskLog.objects.order_by("pk"))
    assert [row.retry_count for row in rows] == numbers
    assert [starts[row.pk] for row in rows] == [1 + number for number in numbers]
    assert [row.attempt for row in rows] == [1 + number for number in numbers]
    assert {(row.status, row.retry_at, row.lost_count) for row in rows} == {
        (Status.FAILED, None, 0)
    }
    assert set(record.starts().values()) == {1}
    assert TaskAttempt.objects.count() == sum(numbers)
    figure(
        "retries",
        tasks=COUNT,
        sweepers=SWEEPERS,
        sweepers_killed=kills,
        bodies=sum(starts.values()),
        expected=COUNT + sum(numbers),
        miscounted=0,
    )


# Crashes

#: The group of this run, whose workers count what is killed in it and below.
GROUP = memory.KillsForMemory().counter.parent


@pytest.fixture
def cgroup():
    """A memory cgroup with a small limit; None where none can be made."""
    made = GROUP / f"taskcontrol-{LAB.name}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text(str(2 * racing.ENOUGH))
    except OSError:
        yield None
        return
    yield made
    with suppress(OSError):
        made.rmdir()


def test_a_body_that_takes_its_process_with_it_stops_after_its_budget_p7(
    start_worker, record, cgroup
):
    worker = start_worker(concurrency=SLOTS, conf=CONF)
    killed = [
        taskcontrol.enqueue(racing.kill_itself, max_retries=9) for _ in range(CRASHES)
    ]
    refused = [
        taskcontrol.enqueue(racing.pass_its_limit, max_retries=2, retry_delay=0)
        for _ in range(CRASHES)
    ]
    rows = {row.pk: row for row in all_ended([*killed, *refused], sized(30, 120))}

    # Two budgets: the one of crashes touches no retry, nor the other way round.
    starts = Counter(line["task"] for line in record.lines("started"))
    for task in killed:
        row = rows[task.pk]
        assert starts[task.pk] == row.attempt == row.lost_count == 1 + LOST_LIMIT
        assert (row.status, row.retry_count, row.retry_at) == (Status.FAILED, 0, None)
        assert row.error_message.startswith("WorkerLost: The process that ran this task")
        assert row.ended_reason == "its process was lost"
        assert kinds(task) == ["rescued"] * LOST_LIMIT
    for task in refused:
        row = rows[task.pk]
        assert starts[task.pk] == 1 + row.retry_count == 3
        assert (row.status, row.lost_count) == (Status.FAILED, 0)
        assert (row.ended_reason, "MemoryError" in row.error_message) == (
            "out of memory",
            True,
        )
    # One after the other: the kernel names no process.
    eaten = [eat(cgroup) for _ in range(CRASHES if cgroup else 0)]
    assert worker.process.running
    figure(
        "crash budget",
        killed=len(killed),
        killed_by_the_kernel_for_memory=len(eaten),
        memory_errors=len(refused),
        limit=LOST_LIMIT,
        starts_beyond_it=0,
        worker_alive=True,
    )


def eat(cgroup):
    """Let the kernel kill a body as often as it may be; return its row."""
    task = taskcontrol.enqueue(racing.fill_its_cgroup, max_retries=9, cgroup=str(cgroup))
    (row,) = all_ended([task], 60)
    assert (row.status, row.lost_count) == (Status.FAILED, 1 + LOST_LIMIT)
    assert row.ended_reason == "out of memory: the kernel killed its process"
    assert row.error_message.startswith("OutOfMemory: The kernel killed")
    return row
