"""What waits in the broker is read without taking it, whatever strangers put there."""

from __future__ import annotations

import json

import pytest
from celery import current_app

from taskcontrol import broker as courier
from taskcontrol.accounting import messages
from taskcontrol.accounting.messages import read, remove
from taskcontrol.exceptions import BrokerUnavailable


def message(task=5, attempt=1, queue="default"):
    return courier.Message(task, attempt, queue, f"abcd1234-{task}-{attempt}", 60)


def test_each_message_tells_what_it_asks_for_and_stays(broker):
    courier.publish([message(5), message(5), message(6, 2, "long")])
    courier.send(courier.DELIVER, queue="default", expires=60)
    current_app.send_task("shop.other", queue="default")

    found = read(["default", "long", "short"])

    assert found.unread == ""
    assert [(one.queue, one.key, one.taken) for one in found.messages] == [
        ("default", (5, 1), False),
        ("default", (5, 1), False),
        ("long", (6, 2), False),
    ]
    assert found.messages[0].celery_task_id == "abcd1234-5-1"
    assert (broker.messages("default"), broker.messages("long")) == (4, 1)


def test_one_message_is_removed_and_its_copy_stays(broker):
    courier.publish([message(5), message(5)])
    first, copy = read(["default"]).messages

    assert remove(first)
    assert not remove(first)
    assert [one.place for one in read(["default"]).messages] == [copy.place]


@pytest.mark.parametrize(
    "raw",
    [
        b"not json",
        b"\xff\xfe",
        b"[]",
        b'{"body": "e30=", "headers": {"task": "taskcontrol.run"}, "properties": {}}',
    ],
)
def test_what_cannot_be_read_is_told_and_stops_nothing(broker, raw):
    with broker.client() as client:
        client.lpush("default", raw)
    courier.publish([message(5)])

    found = read(["default"]).messages

    assert sorted((one.key or (), bool(one.trouble)) for one in found) == [
        *(((), True), ((5, 1), False)),
    ]


@pytest.mark.parametrize("arguments", [["x", 1], [1], [1, 2, 3], [2**80, 1], [True, 1], 7])
def test_arguments_that_are_no_attempt_are_told(broker, arguments):
    current_app.send_task(courier.RUN, (arguments,), queue="default")
    with broker.client() as client:
        (raw,) = client.lrange("default", 0, -1)
        payload = json.loads(raw)
        payload["body"] = json.dumps([arguments, {}, {}])
        payload["properties"]["body_encoding"] = None
        client.lset("default", 0, json.dumps(payload))

    (one,) = read(["default"]).messages

    assert (one.key, bool(one.trouble)) == (None, True)


def test_what_a_worker_took_and_did_not_begin_is_read_too(broker):
    courier.publish([message(5)])
    with current_app.connection_for_read() as connection:
        taken = connection.default_channel.basic_get("default")
        assert taken is not None
        (one,) = read(["default"]).messages
        assert (one.key, one.taken, one.queue) == ((5, 1), True, "default")
        assert not remove(one)
        taken.ack()
    assert read(["default"]).messages == []


def test_a_long_queue_is_read_up_to_a_bound_and_says_so(broker, monkeypatch):
    monkeypatch.setattr(messages, "MOST_READ", 3)
    courier.publish([message(number) for number in range(1, 6)])

    found = read(["default"])

    assert len(found.messages) == 3
    assert "the rest was not read" in found.unread


def test_without_ack_emulation_it_is_said_that_some_are_not_seen(broker, monkeypatch):
    options = {**current_app.conf.broker_transport_options, "ack_emulation": False}
    monkeypatch.setitem(current_app.conf, "broker_transport_options", options)
    courier.publish([message(5)])

    found = read(["default"])

    assert [one.key for one in found.messages] == [(5, 1)]
    assert "nobody sees what a worker has taken" in found.unread


def test_a_broker_that_is_away_is_named(broker):
    broker.kill()

    with pytest.raises(BrokerUnavailable):
        read(["default"])


def test_of_another_transport_nothing_is_known_and_that_is_said(monkeypatch):
    monkeypatch.setitem(current_app.conf, "broker_read_url", "memory://")

    found = read(["default"])

    assert found.messages == []
    assert "'memory' shows no message" in found.unread


def test_messages_are_found_under_a_prefix(broker, monkeypatch):
    options = {**current_app.conf.broker_transport_options, "global_keyprefix": "shop:"}
    monkeypatch.setitem(current_app.conf, "broker_transport_options", options)
    courier.forget_connections()
    try:
        courier.publish([message(5)])
        assert broker.messages("shop:default") == 1
        (one,) = read(["default"]).messages
        assert one.key == (5, 1)
        assert remove(one)
    finally:
        monkeypatch.undo()
        courier.forget_connections()
