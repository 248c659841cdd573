"""P3: one body for each attempt, however often and in whatever order its messages come."""

from __future__ import annotations

import random

import pytest

import taskcontrol
from taskcontrol import broker as courier, lifecycle
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.faults.figures import figure
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended
from tests.servers.redis import Redis
from tests.waiting import eventually

pytestmark = pytest.mark.integration

COUNT = sized(300, 1000)
DELIVERIES = 10
WORKERS, SLOTS = sized(1, 8), sized(4, 2)
#: Messages that the broker takes in one batch.
PAGE = 500


def test_every_attempt_runs_one_body_however_often_it_is_delivered_p3(
    start_workers, broker, record
):
    dice = random.Random(SEED)
    rows = all_sent(dice)
    messages = deliveries(rows, dice)
    for first in range(0, len(messages), PAGE):
        courier.publish(messages[first : first + PAGE])

    workers = start_workers(*[{"concurrency": SLOTS}] * WORKERS)

    left = TaskLog.objects.exclude(status=Status.FINISHED)
    eventually(lambda: not left.exists(), 120, every=0.2)
    eventually(lambda: not waiting(broker), 120, every=0.2)
    settle(WORKERS * SLOTS)
    told = dict(
        TaskLog.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", "attempt")
    )
    bodies = record.starts()
    assert bodies == {(row.pk, row.attempt): 1 for row in rows}
    assert told == {row.pk: row.attempt for row in rows}
    assert not TaskLog.objects.filter(occupies=True).exists()
    assert not TaskAttempt.objects.exists()
    pids = {line["pid"] for line in record.lines("started")}
    assert len(pids) >= WORKERS * SLOTS / 2, "too few processes took part"
    figure(
        "one claim per attempt",
        tasks=COUNT,
        deliveries=len(messages),
        bodies=sum(bodies.values()),
        workers=len(workers),
        processes=len(workers) * SLOTS,
        twice=0,
        stale=0,
    )


def all_sent(dice: random.Random) -> list[TaskLog]:
    """Return tasks that are Queued, some of them for the second or third time; none is sent."""
    taskcontrol.bulk_enqueue({"method": tasks.recorded} for _ in range(COUNT))
    ids = list(TaskLog.objects.values_list("pk", flat=True))
    site = dispatcher_state().site
    for _ in range(2):
        again = dice.sample(ids, COUNT // 3)
        sent = lifecycle.promote(again, site=site)
        lifecycle.unsend([(row.pk, row.attempt) for row in sent], detail="as asked")
    lifecycle.promote(ids, site=site)
    return list(TaskLog.objects.all())


def deliveries(rows: list[TaskLog], dice: random.Random) -> list[courier.Message]:
    """Return each message so many times, and old, future and forged ones, in any order."""
    found = []
    for row in rows:
        numbers = [row.attempt] * DELIVERIES
        numbers += [dice.randrange(row.attempt), row.attempt + dice.randint(1, 3)]
        for number in numbers:
            name = str(row.celery_task_id) if dice.random() < 0.8 else f"forged-{row.pk}"
            queue = dice.choice(("short", "default", "long"))
            found.append(courier.Message(row.pk, number, queue, name, 60))
    dice.shuffle(found)
    return found


def settle(slots: int) -> None:
    """Wait until each message that was sent before is done with: later ones have run."""
    all_ended([taskcontrol.enqueue(tasks.nothing) for _ in range(2 * slots)], 60)


def waiting(broker: Redis) -> int:
    """Return how many messages no worker has taken."""
    with broker.client() as client:
        return sum(client.llen(queue) for queue in ("short", "default", "long"))
