"""A port for the pages: found, kept, and named when it is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from taskcontrol.standalone import listening
from taskcontrol.standalone.listening import NoSuchAddress, PortTaken, listen, url_of

pytestmark = pytest.mark.only_on("sqlite")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


def test_a_given_port_that_is_taken_is_refused_with_the_way_out(taken):
    with pytest.raises(PortTaken, match=rf"Port {taken} of 127.0.0.1 is taken.*--port N"):
        listen("127.0.0.1", taken)


def test_without_a_port_the_next_free_one_is_taken(taken, monkeypatch):
    monkeypatch.setattr(listening, "DEFAULT_PORT", taken)

    with listen("127.0.0.1", None) as found:
        assert found.getsockname()[1] > taken


def test_when_all_tried_ports_are_taken_the_system_chooses(taken, monkeypatch):
    monkeypatch.setattr(listening, "DEFAULT_PORT", taken)
    monkeypatch.setattr(listening, "TRIES", 1)

    with listen("127.0.0.1", None) as found:
        assert found.getsockname()[1] != taken


def test_a_request_waits_while_nobody_serves():
    with listen("127.0.0.1", 0) as found:
        socket.create_connection(found.getsockname(), timeout=1).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(NoSuchAddress, match=r"--host"):
        listen(host, None)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:{}"), ("0.0.0.0", "http://127.0.0.1:{}")],
)
def test_the_printed_address_is_one_that_a_browser_takes(host, url):
    with listen(host, 0) as found:
        assert url_of(found) == url.format(found.getsockname()[1])


def test_an_address_of_ip_version_6_stands_in_brackets():
    try:
        found = listen("::1", 0)
    except NoSuchAddress:
        pytest.skip("this machine has no IPv6")
    with found:
        assert url_of(found) == f"http://[::1]:{found.getsockname()[1]}"
