"""A start waits for no bell: when each ring is lost, the next tick of beat does what it asked."""

from __future__ import annotations

import random
import time

import pytest

import taskcontrol
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.faults.figures import figure
from tests.faults.scene import Machine
from tests.faults.tiers import SEED, sized
from tests.servers.beat import Beat
from tests.waiting import eventually

pytestmark = pytest.mark.integration

STARTS = sized(30, 1000)
#: Seconds between two ticks of beat, and what may come on top of them.
INTERVAL, SLACK = 2.0, 2.0
#: Tasks per second: few enough to find a free slot at each tick.
RATE = 6.0
SLOTS = 24
#: The worker's own dispatcher turns once in so many seconds: beat is left alone.
NEVER = 3600.0


def test_each_start_comes_within_a_beat_although_every_bell_is_lost(
    workshop, broker, database_server, record
):
    workshop.close()  # the worker that others share would hear the bell
    make_type("tests.tasks.nothing")
    deaf = Machine(
        "deaf",
        broker,
        database_server,
        {"DISPATCH_INTERVAL": NEVER},
        concurrency=SLOTS,
        flags=["--include", "tests.faults.deaf"],
        env={"REDIS_URL": f"unix://{broker.socket.with_name('nobody.sock')}"},
    )
    with deaf, Beat(conf={"dispatch": INTERVAL}):
        worker = deaf.worker
        eventually(worker.ready, 60, every=0.1, why=worker.process.tail)
        first = taskcontrol.enqueue(tasks.nothing)
        row = TaskLog.objects.filter(pk=first.pk)
        eventually(lambda: row.get().ended, 30, why=worker.process.tail)  # beat is there
        enqueue_now_and_then()
        rows = TaskLog.objects.filter(status=Status.FINISHED).exclude(pk=first.pk)
        eventually(lambda: rows.count() == STARTS, 20, why=worker.process.tail)

    waits = sorted((row.started_at - row.created_at).total_seconds() for row in rows)
    assert waits[-1] <= INTERVAL + SLACK, waits[-10:]
    # Were a bell heard, most would have begun at once.
    assert waits[STARTS // 2] > INTERVAL / 10, waits
    figure(
        "wake-ups",
        starts=len(waits),
        interval=INTERVAL,
        median=round(waits[STARTS // 2], 2),
        worst=round(waits[-1], 2),
    )


def enqueue_now_and_then():
    """Enqueue at moments that have nothing to do with the ticks."""
    dice = random.Random(SEED)
    for _ in range(STARTS):
        taskcontrol.enqueue(tasks.nothing)
        time.sleep(dice.uniform(0, 2 / RATE))
