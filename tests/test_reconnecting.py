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


def test_a_connection_is_let_go_of_whatever_celery_throws_before_it_does_so_p1(
    consumer, monkeypatch
):
    monkeypatch.setattr(
        reconnecting.Consumer,
        "on_connection_error_after_connected",
        lambda _consumer, _error: broken_close(),
    )

    consumer.on_connection_error_after_connected(Lost())

    assert consumer.connection is None


def test_a_pool_replaces_its_children_as_soon_as_the_consumer_starts_p1(
    consumer, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        reconnecting.Consumer,
        "start",
        lambda one: seen.append(one.pool._pool.on_process_down),
    )
    consumer.pool._pool = SimpleNamespace(on_process_down=None)

    consumer.start()

    assert None not in seen
    assert len(seen) == 1


def test_a_pool_that_replaces_its_children_by_itself_is_left_alone():
    """As each is once its event loop has begun."""
    down = object()
    pool = SimpleNamespace(_pool=SimpleNamespace(on_process_down=down))

    reconnecting.replace_from_the_start(pool)
    reconnecting.replace_from_the_start(SimpleNamespace())  # one of threads

    assert pool._pool.on_process_down is down


def test_a_message_of_no_known_task_is_rejected_and_the_loop_goes_on_p1(
    consumer, monkeypatch
):
    def handle(_message):
        raise TypeError("it makes no sense")

    monkeypatch.setattr(
        reconnecting.Consumer, "create_task_handler", lambda _consumer: handle
    )
    rejected = []
    message = SimpleNamespace(reject_log_error=lambda *given: rejected.append(given))

    consumer.create_task_handler()(message)

    assert len(rejected) == 1


def test_the_consumers_own_loop_is_a_sturdy_one_p1(consumer):
    """Celery's, called without what it needs, raises a TypeError."""
    with pytest.raises(ConnectionError):
        consumer.loop(consumer)


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
