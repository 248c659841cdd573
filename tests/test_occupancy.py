"""Who holds which place is counted from the rows, for the limits and for the slots."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol.models import Worker
from taskcontrol.occupancy import idle_queues, live_workers, read_occupancy
from taskcontrol.slots import LOOKAHEAD
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def pools():
    return {"".join(sorted(pool.queues)): pool for pool in read_occupancy().slots.pools}


# Workers


@pytest.mark.parametrize(
    ("columns", "lives"),
    [
        ({}, True),
        ({"last_seen_at": 15}, True),
        ({"last_seen_at": 21}, False),
        ({"left_at": 1}, False),
        ({"lost_at": 1}, False),
        ({"leaving_at": 1}, False),
    ],
    ids=str,
)
def test_a_worker_offers_slots_while_it_gives_signs_of_life(columns, lives):
    make_worker(["a"], 3, **{name: seconds_ago(age) for name, age in columns.items()})

    assert live_workers().exists() is lives
    assert ("a" in pools()) is lives


def test_the_time_after_which_a_worker_is_lost_can_be_set(conf):
    make_worker(["a"], last_seen_at=seconds_ago(50))
    assert pools() == {}

    conf(WORKER_LOST_AFTER=100)

    assert pools()["a"].size == 2


def test_workers_of_the_same_queues_are_one_pool():
    make_worker(["a", "b"], 2)
    make_worker(["b", "a"], 3, prefetch_off=True)
    make_worker(["a"], 4)

    found = pools()

    assert {queues: pool.size for queues, pool in found.items()} == {"ab": 5, "a": 4}
    assert found["ab"].lookahead == pytest.approx(3 * LOOKAHEAD)
    assert found["a"].lookahead == 0


# Bodies


@pytest.mark.parametrize(
    "status",
    [Status.STARTED, Status.CANCELED, Status.FAILED, Status.PENDING, Status.PAUSED],
)
def test_a_body_holds_a_slot_of_its_worker_whatever_its_task_says_p4(status):
    worker = make_worker(["a"], 2)
    make_task(status, worker=worker, occupies=True, queue="a", method="m")

    occupancy = read_occupancy()

    assert [pool.busy for pool in occupancy.slots.pools] == [1]
    assert occupancy.by_type == {"m": 1}


@pytest.mark.parametrize("status", [Status.CANCELED, Status.FAILED, Status.FINISHED])
def test_a_body_that_is_gone_holds_nothing(status):
    make_task(status, worker=make_worker(["a"]), method="m")

    occupancy = read_occupancy()

    assert [pool.busy for pool in occupancy.slots.pools] == [0]
    assert occupancy.by_type == {}


def test_a_body_in_a_worker_that_is_gone_counts_for_the_limit_alone_p4():
    lost = make_worker(["a"], lost_at=seconds_ago(1))
    make_worker(["a"], 2)
    make_task(Status.STARTED, worker=lost, queue="a", method="m")

    occupancy = read_occupancy()

    assert [pool.free for pool in occupancy.slots.pools] == [2]
    assert occupancy.by_type == {"m": 1}


def test_a_body_holds_a_slot_of_the_worker_that_runs_it_and_not_of_its_queue():
    make_worker(["a"], 2)
    other = make_worker(["b"], 2)
    make_task(Status.STARTED, worker=other, queue="a")

    assert {queues: pool.busy for queues, pool in pools().items()} == {"a": 0, "b": 1}


def test_nothing_is_sent_to_wait_behind_a_long_body():
    make_type("short", usual_seconds=0.05)
    make_type("long", usual_seconds=60)
    worker = make_worker(["a"], 4, prefetch_off=True)
    for method in ("short", "long", "never ended yet"):
        make_task(Status.STARTED, worker=worker, queue="a", method=method)

    (pool,) = read_occupancy().slots.pools

    assert (pool.busy, pool.lookahead) == (3, pytest.approx(2 * LOOKAHEAD))


# What was sent


def test_what_was_sent_is_promised_a_slot():
    make_worker(["a"], 2)
    make_task(Status.QUEUED, queue="a", method="m")

    occupancy = read_occupancy()

    assert [pool.free for pool in occupancy.slots.pools] == [1]
    assert occupancy.by_type == {"m": 1}


def test_what_was_sent_without_a_slot_uses_up_the_lookahead():
    make_type("short", usual_seconds=0.05)
    make_worker(["a"], 1, prefetch_off=True)
    for _ in range(2):
        make_task(Status.QUEUED, queue="a", method="short")

    (pool,) = read_occupancy().slots.pools

    assert (pool.free, pool.lookahead) == (0, pytest.approx(LOOKAHEAD - 0.05))


def test_what_was_sent_to_a_queue_that_nobody_consumes_holds_no_slot():
    make_worker(["a"], 2)
    make_task(Status.QUEUED, queue="b", method="m")

    occupancy = read_occupancy()

    assert [pool.free for pool in occupancy.slots.pools] == [2]
    assert occupancy.by_type == {"m": 1}


# Idle queues


def test_a_queue_is_idle_while_a_worker_of_it_has_a_slot_without_a_body():
    busy = make_worker(["a", "b"], 1)
    make_worker(["b", "c"], 1)
    make_task(Status.STARTED, worker=busy)
    make_task(Status.QUEUED, queue="b")

    assert idle_queues() == {"b", "c"}


def test_without_workers_no_queue_is_idle():
    make_worker(["a"], left_at=seconds_ago(1))

    assert idle_queues() == set()


def test_the_statements_that_read_it_are_as_many_whatever_there_is():
    for number in range(5):
        worker = make_worker([f"q{number}"], 3)
        for status in (Status.STARTED, Status.QUEUED):
            make_task(status, worker=worker, queue=f"q{number}", method=f"m{number}")

    with CaptureQueriesContext(connection) as queries:
        read_occupancy()

    assert len(queries) == (1 if connection.vendor == "postgresql" else 2)
    assert Worker.objects.count() == 5
