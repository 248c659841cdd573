"""Clocks that are wrong, or that somebody sets: only the database's decides."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import taskcontrol
from taskcontrol.models import Worker as WorkerRow
from taskcontrol.status import Status
from tests import tasks
from tests.faults.figures import figure
from tests.faults.tiers import sized
from tests.integration.watching import all_ended, story
from tests.lab import LAB
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def faketime() -> str:
    """The library that shows a process another time; its monotonic clock is left alone."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("needs libfaketime: apt-get install faketime")
    return str(found[0])


def shown(library: str, **how: str) -> dict[str, str]:
    """Return the environment of a process that is shown another time."""
    plain = {"LD_PRELOAD": library, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {**plain, "DONT_FAKE_MONOTONIC": "1", **how}


def stream(count):
    """Enqueue tasks of every kind that a clock may hurt; return their rows."""
    kinds = (
        {"expires": timedelta(seconds=60)},
        {"run_at": timedelta(seconds=1), "expires": timedelta(seconds=75)},
        {"timeout": 30},
        {"max_retries": 1, "retry_delay": 1},
    )
    # Not to sleep is the library's price: it refuses what Python's sleep asks the kernel for.
    return [
        taskcontrol.enqueue(tasks.busy, arguments={"seconds": 0.02}, **kinds[number % 4])
        for number in range(count)
    ]


def unharmed(rows, record):
    """Return how many of ``rows`` waited, when no clock has hurt any of them."""
    ended = all_ended(rows, 90)
    assert {now.status for now in ended} == {Status.FINISHED}, wrong(ended)
    assert {now.lost_count for now in ended} == {0}
    assert all(now.run_at is None or now.started_at >= now.run_at for now in ended)
    assert all(now.time_taken < timedelta(seconds=60) for now in ended)
    assert set(record.starts().values()) <= {1}
    assert not WorkerRow.objects.exclude(lost_at=None).exists()
    return sum(now.run_at is not None for now in ended)


def test_clocks_that_are_wrong_by_minutes_expire_and_rescue_nothing(
    start_workers, faketime, record
):
    workers = start_workers(
        {"env": shown(faketime, FAKETIME="+90s")}, {"env": shown(faketime, FAKETIME="-90s")}
    )
    eventually(lambda: all(one.row().clock_offset for one in workers))
    assert [round(one.row().clock_offset / 10) for one in workers] == [9, -9]

    rows = []
    for _ in range(sized(1, 10)):
        rows += stream(100)
        all_ended(rows[-100:], 90)  # what waits for longer than it may expires by right

    waited = unharmed(rows, record)
    assert len({now.worker_id for now in all_ended(rows)}) == 2
    figure(
        "clocks at +90 s and -90 s", tasks=len(rows), waited=waited, rescued=0, expired=0
    )


def test_a_clock_that_is_set_while_it_runs_expires_and_rescues_nothing(
    start_worker, faketime, record
):
    clock = LAB / "clock"
    clock.write_text("+0s")
    how = {"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    worker = start_worker(env=shown(faketime, **how))
    rows = []
    for step in ("+3600s", "-3600s", "+0s"):
        rows += stream(sized(8, 100))
        clock.write_text(step)
        eventually(
            lambda step=step: abs(worker.row().clock_offset - seconds(step)) < 60, 20
        )

    waited = unharmed(rows, record)
    figure("a clock that is set", tasks=len(rows), waited=waited, rescued=0, expired=0)


def seconds(step: str) -> float:
    return float(step.rstrip("s"))


def wrong(rows):
    """Return the first that did not finish, for the message of a failed test."""
    return [story(now) for now in rows if now.status != Status.FINISHED][:2]
