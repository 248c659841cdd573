"""What somebody else's open transaction holds costs no worker its life, and stops no other task."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import connections, transaction

import taskcontrol
from taskcontrol import draining, pausing
from taskcontrol.models import TaskType, Worker
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import ended, row, story
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, pytest.mark.only_on("postgresql")]

#: Long enough to be declared lost in.
LONG = 9.0


@contextmanager
def a_long_request(act):
    """Do ``act`` in a transaction that goes on until the end of the block."""
    done, over = threading.Event(), threading.Event()

    def request():
        try:
            with transaction.atomic():  # as under ATOMIC_REQUESTS
                act()
                done.set()
                over.wait(60)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(request)
        try:
            assert done.wait(15), asked.done() and asked.result()
            yield
        finally:
            over.set()
        asked.result(15)


def a_while():
    """Let so much time go by that nobody is silent for longer."""
    threading.Event().wait(LONG)


def lost_workers():
    return list(Worker.objects.exclude(lost_at=None).values("hostname", "last_seen_at"))


def goes_on():
    """See that a task of another type is dispatched and ends."""
    late = taskcontrol.enqueue(tasks.nothing)
    eventually(lambda: row(late).status == Status.FINISHED, 8, why=lambda: story(late))


def test_a_held_task_costs_no_worker_its_life_nor_another_task_its_limit_p4(
    start_worker, record
):
    start_worker(concurrency=2)
    make_type("tests.tasks.swallow_everything")
    make_type("tests.tasks.slow_at_first", concurrency_limit=1)
    one = taskcontrol.enqueue(tasks.swallow_everything, seconds=60)
    other = taskcontrol.enqueue(tasks.slow_at_first, seconds=60)
    eventually(lambda: len(record.lines("started")) == 2, 20)
    start_worker(concurrency=2)
    taskcontrol.cancel(one)

    with a_long_request(lambda: taskcontrol.retry(one)):
        a_while()
        goes_on()
        assert not lost_workers()
        assert (row(other).attempt, row(other).lost_count) == (1, 0)

    taskcontrol.cancel(other)


def test_a_held_type_stops_no_other(start_workers):
    start_workers({"concurrency": 2}, {"concurrency": 2})
    kind = make_type("tests.tasks.recorded")
    make_type("tests.tasks.nothing")
    ended(taskcontrol.enqueue(tasks.recorded))

    with a_long_request(lambda: pausing.pause_all(kind)):
        a_while()
        goes_on()
        assert not lost_workers()


def test_a_type_that_somebody_is_making_stops_no_other(start_worker):
    start_worker(concurrency=1)
    make_type("tests.tasks.nothing")

    with a_long_request(lambda: TaskType.objects.create(method="tests.tasks.recorded")):
        waits = taskcontrol.enqueue(tasks.recorded)
        goes_on()
        assert row(waits).status == Status.PENDING

    ended(waits)


def test_a_held_worker_is_not_declared_lost_and_stops_no_other_p1(start_workers):
    one, _ = start_workers({"concurrency": 1}, {"concurrency": 1})
    ended(taskcontrol.enqueue(tasks.recorded))
    worker = Worker.objects.get(hostname=one.hostname)

    def touch():
        draining.drain_worker(worker)
        Worker.objects.filter(pk=worker.pk).update(leaving_at=None)

    with a_long_request(touch):
        a_while()
        goes_on()
    eventually(lambda: Worker.objects.get(pk=worker.pk).last_seen_at > worker.last_seen_at)

    assert not lost_workers()
