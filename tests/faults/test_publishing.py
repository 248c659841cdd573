"""No caller waits for a broker that takes connections and answers nothing."""

from __future__ import annotations

import time

import pytest

import taskcontrol
from taskcontrol.status import Status
from tests import tasks
from tests.faults.figures import figure
from tests.faults.tiers import sized
from tests.integration.watching import all_ended

pytestmark = pytest.mark.integration

#: Milliseconds that 95 of 100 calls may take, and seconds until all of it has run.
CALL, CAUGHT_UP = 50, 15


def timed(call):
    """Return what ``call`` returned, and its milliseconds."""
    began = time.perf_counter()
    return call(), (time.perf_counter() - began) * 1000


def test_enqueue_waits_for_no_frozen_broker(worker, broker, record):
    broker.freeze()
    called = [
        timed(lambda: taskcontrol.enqueue(tasks.recorded)) for _ in range(sized(100, 1000))
    ]
    slow = sorted(took for _, took in called)[len(called) * 95 // 100]

    broker.thaw()
    ended, caught_up = timed(lambda: all_ended([row for row, _ in called], CAUGHT_UP))

    assert slow <= CALL
    assert caught_up <= CAUGHT_UP * 1000
    assert {now.status for now in ended} == {Status.FINISHED}
    assert set(record.starts().values()) == {1}
    figure(
        "publishing",
        tasks=len(called),
        enqueue_p95_ms=round(slow, 1),
        caught_up_seconds=round(caught_up / 1000, 1),
        lost=0,
    )
