"""A worker outlives every way in which the broker goes."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import psutil
import pytest
from billiard.exceptions import WorkerLostError
from celery import current_app
from celery.concurrency.prefork import TaskPool
from kombu.connection import Connection
from redis.exceptions import ConnectionError as Lost

from taskcontrol import reconnecting
from tests.servers.process import wait_until_dead

pytestmark = pytest.mark.usefixtures("broker")


@pytest.fixture
def consumer():
    """A consumer whose connection is open, of a worker that does not run."""
    worker, pool = (
        SimpleNamespace(use_eventloop=False),
        SimpleNamespace(num_processes=1, is_green=False),
    )
    found = reconnecting.SoonBack(
        lambda _request: None, app=current_app, controller=worker, pool=pool
    )
    found.connection = opened = current_app.connection_for_read()
    opened.connect()
    yield found
    Connection.close(opened)  # whatever a test has put in the place of its own


def broken_close():
    """What kombu throws when a message was in hand while the connection broke."""
    raise AttributeError("'NoneType' object has no attribute 'hostname'")


@pytest.mark.filterwarnings("ignore::celery.exceptions.CPendingDeprecationWarning")
def test_a_connection_that_cannot_be_closed_does_not_end_the_worker_p1(
    consumer, broker, caplog
):
    broker.kill()
    consumer.connection.close = broken_close

    consumer.on_connection_error_after_connected(Lost())

    assert consumer.connection is None
    assert "was not closed: AttributeError" in caplog.text


@pytest.mark.parametrize("error", [TypeError, KeyError, AttributeError, ValueError])
def test_a_message_that_cannot_be_read_costs_a_connection_and_not_the_worker_p1(
    consumer, error
):
    def loop(*_args):
        raise error("it makes no sense")

    with pytest.raises(consumer.connection_errors):
        reconnecting._sturdy(loop, consumer)


@pytest.mark.parametrize(
    ("left", "what_comes"), [([17], ConnectionError), ([], WorkerLostError)]
)
def test_a_pool_that_lost_a_child_before_it_was_ready_goes_on_with_the_others_p1(
    consumer, left, what_comes
):
    def loop(*_args):
        raise WorkerLostError("Could not start worker processes")

    consumer.pool.info = {"processes": left}

    with pytest.raises(what_comes):
        reconnecting._sturdy(loop, consumer)


@pytest.fixture
def pool():
    """A pool of processes whose event loop has not begun."""
    made = TaskPool(2, app=current_app, threads=False, initargs=(current_app, "w@here"))
    made.start()
    yield made
    made.terminate()


def test_a_child_that_dies_before_the_event_loop_begins_is_replaced_p1(pool):
    first, second = pool.info["processes"]
    reconnecting.replace_from_the_start(pool)

    os.kill(first, signal.SIGKILL)
    wait_until_dead([psutil.Process(first)])
    pool.maintain_pool()

    left = set(pool.info["processes"])
    assert second in left
    assert len(left) == 2
    assert first not in left
