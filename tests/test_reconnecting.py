"""A worker outlives every way in which the broker goes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import current_app
from redis.exceptions import ConnectionError as Lost

from taskcontrol import reconnecting

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
    found.connection = current_app.connection_for_read()
    found.connection.connect()
    return found


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
        reconnecting._outliving_spoilt_messages(loop)
