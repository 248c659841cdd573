"""A body that is over on the deck has run, whatever keeps its end from being written."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from django.db import connections

import taskcontrol
from taskcontrol.models import OnLost
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import ended, story
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.only_on("postgresql")]

#: Nobody is silent for so long, so that nothing but the worker itself says who is lost.
PATIENT = {"WORKER_LOST_AFTER": 120.0}


@contextmanager
def an_outage(database_server):
    """Stop the database for the block."""
    connections.close_all()
    database_server.stop()
    try:
        yield
    finally:
        database_server.start()


def tries_no_more(worker, task):
    """See that the child of a body has done with it, which took all of its tries to write."""
    said = f"Task {task.pk}: attempt 1 failed."
    eventually(lambda: said in worker.process.tail(4000), 60, why=worker.process.tail)


def ran_once(record, task):
    return [line["task"] for line in record.lines("started")].count(task.pk) == 1


def test_a_body_that_succeeds_in_an_outage_ends_with_it_and_ran_once_p1(
    start_worker, record, database_server
):
    worker = start_worker(concurrency=1, conf=PATIENT)
    task = taskcontrol.enqueue(tasks.recorded, seconds=1, tag="it")
    eventually(lambda: record.lines("started", task=task.pk), 20)

    with an_outage(database_server):
        tries_no_more(worker, task)

    now = ended(task, 30)
    assert (now.status, now.lost_count, now.result) == (Status.FINISHED, 0, "it"), story(
        now
    )
    assert ran_once(record, task)


@pytest.mark.parametrize("how", ["simple", "claimed by its child"])
def test_a_body_that_raises_in_an_outage_fails_with_its_own_error_p1(
    start_worker, record, database_server, how
):
    make_type(
        "tests.tasks.fail_late",
        usual_seconds=0.001 if how == "simple" else None,
        declared={},
        on_lost=OnLost.FAIL,
    )
    worker = start_worker(concurrency=1, conf=PATIENT)
    task = taskcontrol.enqueue(tasks.fail_late, seconds=1)
    eventually(lambda: record.lines("started", task=task.pk), 20)

    with an_outage(database_server):
        tries_no_more(worker, task)

    now = ended(task, 30)
    assert now.status == Status.FAILED
    assert now.error_message.endswith("ValueError: it failed"), story(now)
    assert (now.lost_count, now.started_at is None) == (0, False)
    assert ran_once(record, task)


def test_a_body_that_holds_its_own_row_keeps_no_other_from_being_written_p1(
    start_worker, record
):
    for method in ("tests.tasks.hold_own_row", "tests.tasks.fail_late"):
        make_type(method, usual_seconds=0.001, declared={}, on_lost=OnLost.FAIL)
    start_worker(concurrency=2)
    holder = taskcontrol.enqueue(tasks.hold_own_row, seconds=600)
    eventually(lambda: record.lines("started", task=holder.pk), 20)

    tells = taskcontrol.enqueue(tasks.fail_late, seconds=0.05)

    now = ended(tells, 4)
    assert now.error_message.endswith("ValueError: it failed"), story(now)
    assert ran_once(record, tells)
