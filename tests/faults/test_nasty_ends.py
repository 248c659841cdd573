"""Whatever a body does to itself, its task ends readably and its worker lives on."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.status import Status
from tests import nasty, tasks
from tests.faults.figures import figure
from tests.faults.tiers import sized
from tests.integration.watching import all_ended
from tests.nastyruns import run_all, wrongs

pytestmark = pytest.mark.integration


def same(workers):
    """Return what must not change over a test: the main processes of ``workers``."""
    return [(one.process.pid, one.process.running) for one in workers]


def test_all_45_nasty_ends_are_told_and_no_worker_is_harmed(start_worker, record):
    workers = [start_worker(concurrency=6, conf={"WORKER_LOST_AFTER": 60.0})]
    before = same(workers)

    for _ in range(sized(1, 10)):
        became = run_all(nasty.CORPUS, 120)

        assert not wrongs(became), "\n".join(wrongs(became))
        assert len(became) == 45
        assert set(record.starts().values()) == {1}
        assert same(workers) == before
    figure("nasty ends", cases=45, rounds=sized(1, 10), terminal=45, parents_lost=0)


def test_twenty_memory_errors_end_no_worker(start_workers, record):
    workers = start_workers(*[{"concurrency": 2}] * 3)
    before = same(workers)
    ways = [
        tasks.run_out_of_memory,
        nasty.fill_memory,
        nasty.leak_memory,
        nasty.run_out_of_memory_afterwards,
    ]
    rows = [taskcontrol.enqueue(ways[number % 4]) for number in range(sized(20, 200))]

    ended = all_ended(rows, 30)

    assert same(workers) == before, [one.process.tail() for one in workers]
    assert {now.status for now in ended} <= {Status.FAILED, Status.FINISHED}
    failed = [now for now in ended if now.status == Status.FAILED]
    untold = [one for one in failed if "MemoryError" not in one.error_message]
    # A child that has no memory left at all can tell nothing; its worker does.
    assert {one.method for one in untold} <= {"tests.nasty.leak_memory"}, [
        (one.method, one.error_message[-300:]) for one in untold
    ]
    assert len(failed) >= len(rows) // 2
    after = [taskcontrol.enqueue(tasks.nothing) for _ in range(12)]
    assert {now.status for now in all_ended(after)} == {Status.FINISHED}
    figure("memory errors", tasks=len(rows), workers=3, parents_lost=0)
