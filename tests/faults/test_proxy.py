"""The proxy does what the nemesis believes that it does."""

from __future__ import annotations

import time

import pytest
import redis

from tests.faults.proxy import Proxy
from tests.lab import LAB


@pytest.fixture
def proxy(broker):
    between = Proxy(LAB / "between.sock", broker.socket).start()
    yield between
    between.stop()


@pytest.fixture
def client(proxy):
    with redis.Redis(
        unix_socket_path=str(proxy.path), socket_timeout=0.5, retry=None
    ) as through:
        through.set("long", "x" * 200_000)
        yield through


def again(client):
    """Ask over a connection of its own: the client's pool may hold one that is cut."""
    client.connection_pool.disconnect()
    return client.ping()


def test_it_passes_everything_on_and_delays_when_told(proxy, client):
    assert len(client.get("long")) == 200_000
    began = time.monotonic()
    proxy.delay = 0.1

    assert client.ping()

    assert time.monotonic() - began >= 0.2  # the question and the answer


def test_it_cuts_after_so_many_bytes_and_takes_new_connections(proxy, client):
    proxy.cut_after(1000)

    with pytest.raises(redis.ConnectionError):
        client.get("long")

    assert again(client)
    assert proxy.cuts == 1


def test_an_idle_connection_is_cut(proxy, client):
    held = client.connection_pool.get_connection()
    proxy.cut()

    with pytest.raises(redis.ConnectionError):
        held.read_response()


@pytest.mark.parametrize(("ways", "arrived"), [(["down"], 1), (["up", "down"], 0)])
def test_what_is_half_open_arrives_and_a_black_hole_swallows_all(
    proxy, client, broker, ways, arrived
):
    proxy.swallow(*ways)

    with pytest.raises(redis.TimeoutError):
        client.incr("count")

    proxy.heal()
    assert again(client)
    with broker.client() as direct:
        assert int(direct.get("count") or 0) == arrived


def test_it_refuses_until_it_is_healed_as_when_the_server_is_away(proxy, client, broker):
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        again(client)
    proxy.heal()
    assert again(client)

    broker.kill()
    with pytest.raises(redis.ConnectionError):
        again(client)
