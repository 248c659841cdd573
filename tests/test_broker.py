"""The only file that asks Celery for something: in batches, and bounded in time."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing

import pytest
from celery import current_app

from taskcontrol import broker as room
from taskcontrol.broker import Message, publish
from taskcontrol.exceptions import BrokerUnavailable
from tests.servers.ports import free_port
from tests.test_dispatch import messages
from tests.waiting import beside, eventually, within

SLOW = 30


def some(count, queue="default", first=1):
    return [
        Message(number, 1, queue, f"0a1b2c3d-{number}-1", 300)
        for number in range(first, first + count)
    ]


@pytest.fixture(autouse=True)
def fresh_connections():
    room.forget_connections()
    yield
    room.forget_connections()


@pytest.fixture
def at(settings):
    """Let the broker be at another address."""
    before = current_app.conf.broker_url

    def move(url):
        current_app.conf.broker_url = current_app.conf.broker_write_url = url
        room.forget_connections()

    yield move
    current_app.conf.broker_url = before
    current_app.conf.broker_write_url = None


def reads(server):
    """Return how often the server has read from its clients."""
    with server.client() as client:
        return client.info("stats")["total_reads_processed"]


def test_messages_come_in_the_order_in_which_they_were_sent(broker):
    publish(some(20))

    assert messages(broker) == [(number, 1) for number in range(1, 21)]


def test_many_messages_go_in_one_batch(broker):
    publish(some(1))  # opens the connection
    before = reads(broker)

    publish(some(500, first=2))

    assert reads(broker) - before < 100
    assert broker.messages("default") == 501


def test_each_message_goes_to_its_queue(broker):
    publish([*some(2, "short"), *some(3, "long", first=3)])

    assert (broker.messages("short"), broker.messages("long")) == (2, 3)


def test_nothing_is_sent_without_asking_the_broker(broker):
    broker.kill()

    publish([])


def test_a_message_carries_its_limits_and_nothing_of_the_task(broker, conf):
    conf(CANCEL_GRACE=4)
    publish(some(1))

    with broker.client() as client:
        message = json.loads(client.lindex("default", 0))
    headers = message["headers"]
    assert (headers["task"], headers["id"]) == ("taskcontrol.run", "0a1b2c3d-1-1")
    assert headers["timelimit"] == [304, 300]
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("", "")
    assert headers["ignore_result"] is True
    assert headers["eta"] is None


def test_a_broker_that_is_down_is_told_within_seconds(broker):
    broker.kill()

    with within(SLOW), pytest.raises(BrokerUnavailable, match="cannot be reached"):
        publish(some(1))
    with within(SLOW), pytest.raises(BrokerUnavailable):
        room.check()
    with within(SLOW), pytest.raises(BrokerUnavailable):
        room.send(room.DELIVER, queue="default", expires=5)


def test_a_broker_that_goes_away_between_two_batches_is_told(broker):
    publish(some(1))
    broker.kill()

    with within(SLOW), pytest.raises(BrokerUnavailable):
        publish(some(5))


def test_a_broker_that_hangs_is_told_within_seconds(broker):
    publish(some(1))
    broker.freeze()

    with within(SLOW), pytest.raises(BrokerUnavailable):
        publish(some(5))
    with within(SLOW), pytest.raises(BrokerUnavailable):
        room.check()


def test_a_broker_that_hangs_from_the_start_is_told_within_seconds(broker):
    broker.freeze()

    with within(SLOW), pytest.raises(BrokerUnavailable):
        publish(some(5))


def test_after_an_outage_messages_go_again(broker):
    publish(some(1))
    broker.kill()
    with pytest.raises(BrokerUnavailable):
        publish(some(1))
    broker.start()

    eventually(lambda: room.check() is None)
    publish(some(3))

    assert broker.messages("default") == 3


def test_after_a_hang_messages_go_again(broker):
    broker.freeze()
    with pytest.raises(BrokerUnavailable):
        publish(some(1))
    broker.thaw()

    room.check()
    publish(some(3))

    assert broker.messages("default") >= 3


def test_a_refused_port_is_told_within_seconds(at):
    at(f"redis://127.0.0.1:{free_port()}/0")

    with within(SLOW), pytest.raises(BrokerUnavailable, match="refused"):
        publish(some(1))


def test_a_port_that_takes_connections_and_says_nothing_is_told_within_seconds(at):
    with closing(socket.create_server(("127.0.0.1", 0))) as deaf:
        at(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")

        with within(SLOW), pytest.raises(BrokerUnavailable):
            publish(some(1))
        with within(SLOW), pytest.raises(BrokerUnavailable):
            room.check()


def test_a_server_that_is_no_broker_is_told(at):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        at(f"redis://127.0.0.1:{other.getsockname()[1]}/0")

        def answer_nonsense():
            peer, _ = other.accept()
            with closing(peer):
                peer.recv(100)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=answer_nonsense, daemon=True).start()
        with within(SLOW), pytest.raises(BrokerUnavailable):
            publish(some(1))


def test_an_error_that_is_not_the_brokers_is_not_hidden(broker):
    broken = Message(1, 1, "default", "id", timeout="never")

    with pytest.raises(TypeError):
        publish([broken])
    with pytest.raises(TypeError):
        room.send(room.DELIVER, queue="default", expires=object())


def test_threads_publish_at_once(broker):
    results = [beside(lambda: publish(some(10))) for _ in range(4)]

    assert results == [None] * 4
    assert broker.messages("default") == 40


def test_our_own_tasks_are_sent_with_an_end(broker):
    room.send(room.DELIVER, queue="short", expires=60)

    with broker.client() as client:
        message = json.loads(client.lindex("short", 0))
    assert message["headers"]["task"] == room.DELIVER
    assert message["headers"]["expires"] is not None
