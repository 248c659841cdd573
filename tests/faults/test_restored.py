"""A broker that comes back with what it had, or with what it had some time ago."""

from __future__ import annotations

import shutil
import time
from collections import Counter

import pytest
from kombu.connection import Connection

import taskcontrol
from taskcontrol import broker as courier, lifecycle
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.faults import racing
from tests.faults.figures import figure
from tests.faults.tiers import sized
from tests.integration.watching import all_ended
from tests.lab import LAB
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WAITING, CANCELED, TAKEN = sized(40, 400), 4, 5
GATED, FAILING, LOST = 3, 4, 6
#: Sent again soon; and a worker that sleeps through a restart of the broker is not lost.
CONF = {"HEARTBEAT_INTERVAL": 0.5, "RESEND_AFTER": 1.0, "WORKER_LOST_AFTER": 30.0}
#: What is longer ago than any visibility timeout.
LONG_AGO = 86_400


@pytest.fixture
def keeping(broker):
    """The broker of the run, which keeps what it is told while this test runs."""
    older = broker.data.with_suffix(".older")
    broker.kill()
    broker.keeps = True
    broker.start()
    yield broker
    broker.kill()
    broker.keeps = False
    shutil.rmtree(broker.data)
    shutil.rmtree(older, ignore_errors=True)
    broker.start()


def test_what_a_restarted_broker_still_has_or_has_again_runs_no_body_twice_p1_p3(
    start_worker, keeping, record
):
    gate = LAB / "restored-gate"
    waiting, gated, failing = enqueue_all(gate)
    send(waiting + gated + failing)
    for row in waiting[:CANCELED]:
        taskcontrol.cancel(row)
    strand(keeping, TAKEN)
    sent = len(waiting + gated + failing)
    older = keeping.data.with_suffix(".older")
    shutil.copytree(keeping.data, older)

    # With all that it had.
    keeping.kill()
    keeping.start()
    assert held_by(keeping) == (sent - TAKEN, TAKEN)
    let_them_be_given_again(keeping)
    worker = start_worker(concurrency=GATED + 3, conf=CONF)
    all_ended(waiting + failing)
    eventually(lambda: held_by(keeping) == (0, 0), why=worker.process.tail)
    eventually(lambda: len(begun(record, gated)) == GATED, why=worker.process.tail)
    before = rows_of(waiting + failing)

    # With what it had before all that, while some of its bodies still run.
    worker.freeze()
    late = bulk(LOST, {"method": tasks.recorded})
    send(late)
    keeping.kill()
    shutil.rmtree(keeping.data)
    shutil.copytree(older, keeping.data)
    keeping.start()
    assert held_by(keeping) == (sent - TAKEN, TAKEN)
    let_them_be_given_again(keeping)
    worker.thaw()
    eventually(lambda: held_by(keeping) == (0, 0), 30, why=worker.process.tail)
    assert {row.status for row in rows_of(gated)} == {Status.STARTED}
    gate.touch()
    all_ended(late + gated)

    assert rows_of(waiting + failing) == before
    assert wrong(waiting, gated + late, failing, record) == []
    figure(
        "a broker with its data",
        tasks=sent + LOST,
        came_back=2 * sent,
        past_them=sent + CANCELED,
        unacknowledged=2 * TAKEN,
        lost=0,
        duplicated=0,
    )


def enqueue_all(gate):
    """Return tasks that wait, that run until the gate is there, and that fail twice."""
    waits = {"kind": f"{racing.GATE}{gate}", "seconds": 0}
    return (
        bulk(WAITING, {"method": tasks.recorded}),
        bulk(GATED, {"method": racing.limited_17, "arguments": waits}),
        bulk(FAILING, {"method": tasks.fail_recorded, "max_retries": 1, "retry_delay": 0}),
    )


def bulk(count, call):
    """Return the rows of so many equal calls."""
    batch = taskcontrol.create_batch()
    taskcontrol.bulk_enqueue([dict(call) for _ in range(count)], batch_id=batch)
    return list(TaskLog.objects.filter(batch_id=batch).order_by("pk"))


def send(rows):
    """Send them all, however many slots there are."""
    sent = lifecycle.promote([row.pk for row in rows], site=dispatcher_state().site)
    courier.forget_connections()
    courier.publish(
        [
            courier.Message(row.pk, row.attempt, row.queue, str(row.celery_task_id), 60)
            for row in sent
        ]
    )


def strand(broker, count):
    """Take some messages as a worker does that dies before it has acknowledged them."""
    connection = Connection(broker.broker_url)
    channel = connection.channel()
    for _ in range(count):
        assert channel.basic_get("default") is not None
    # Whoever closes in order gives them back.
    channel.qos.restore_at_shutdown = False
    connection.close()


def let_them_be_given_again(broker):
    """Let the visibility timeout of what was taken be over."""
    with broker.client() as client:
        past = time.time() - LONG_AGO  # noqa: TID251 - kombu's own clock
        for tag in client.zrange("unacked_index", 0, -1):
            client.zadd("unacked_index", {tag: past})


def held_by(broker):
    """Return how many messages wait, and how many were taken and not acknowledged."""
    with broker.client() as client:
        return client.llen("default"), client.hlen("unacked")


def begun(record, rows):
    """Return those of ``rows`` whose body has begun."""
    return {row.pk for row in rows} & {task for task, _ in record.starts()}


def rows_of(rows):
    """Return them as they are now."""
    return list(TaskLog.objects.filter(pk__in=[row.pk for row in rows]).order_by("pk"))


def wrong(waiting, others, failing, record):
    """Return what did not run once, twice where it failed, never where it was canceled."""
    expected = Counter({(row.pk, 1): 1 for row in waiting[CANCELED:] + others})
    expected.update((row.pk, attempt) for row in failing for attempt in (1, 2))
    starts = record.starts()
    ends = dict.fromkeys((row.pk for row in waiting + others), Status.FINISHED)
    ends |= dict.fromkeys((row.pk for row in waiting[:CANCELED]), Status.CANCELED)
    ends |= dict.fromkeys((row.pk for row in failing), Status.FAILED)
    now = rows_of(waiting + others + failing)
    return [
        *sorted((starts - expected).items()),
        *sorted((expected - starts).items()),
        *((row.pk, row.status) for row in now if row.status != ends[row.pk]),
    ]
