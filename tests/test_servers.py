"""The laboratory itself: what tests start can be broken, comes back, and never stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from tests.lab import LAB
from tests.servers.missing import ServerMissing
from tests.servers.ports import answers
from tests.servers.postgres import Postgres, binaries
from tests.servers.process import Process
from tests.servers.redis import Redis
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path):
    one = Redis(LAB / f"own-{tmp_path.name[-20:]}.sock", tcp=True)
    one.start()
    yield one
    one.process.kill()


def test_a_broker_that_was_killed_comes_back_empty_at_its_address(server):
    with server.client() as client:
        client.lpush("default", "a message")
    assert server.messages("default") == 1

    server.kill()
    assert not server.ready()
    server.start()

    assert server.messages("default") == 0


def test_a_broker_that_keeps_comes_back_with_its_messages_or_with_older_ones(server):
    server.kill()
    server.keeps = True
    server.start()
    with server.client() as client:
        client.lpush("default", "a message")
    older = server.data.with_suffix(".older")
    shutil.copytree(server.data, older)
    with server.client() as client:
        client.lpush("default", "another")

    server.kill()
    server.start()
    assert server.messages("default") == 2

    server.kill()
    shutil.rmtree(server.data)
    older.rename(server.data)
    server.start()
    assert server.messages("default") == 1


def test_a_broker_that_hangs_takes_connections_and_answers_nothing(server):
    server.freeze()
    try:
        assert answers(("127.0.0.1", server.port))
        with pytest.raises(redis.TimeoutError), server.client(timeout=0.2) as client:
            client.ping()
    finally:
        server.thaw()

    assert server.ready()


def test_a_database_that_was_killed_comes_back_with_what_was_committed(tmp_path):
    try:
        binaries()
    except ServerMissing as why:
        pytest.skip(str(why))
    import psycopg

    server = Postgres(LAB / f"own-{tmp_path.name[-20:]}", fsync=True)
    server.start()
    try:
        with psycopg.connect(server.dsn()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

        server.kill()
        assert not server.listening
        server.start()

        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT number FROM kept").fetchone() == (7,)
    finally:
        server.stop()
    assert server.process is not None
    assert not server.process.running


STARTS_AND_TELLS = """
import json, sys
from pathlib import Path
from tests.servers.process import Process
from tests.servers.redis import Redis

redis = Redis(Path(sys.argv[1]))
redis.start()
sleeper = Process(["sleep", "600"], log=Path(sys.argv[2]))
sleeper.start()
print(json.dumps([redis.process.pid, sleeper.pid]), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the leash")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_tests_that_are_ended(tmp_path, number):
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            STARTS_AND_TELLS,
            str(tmp_path / "s"),
            str(tmp_path / "log"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parent.parent,
    ) as tests:
        assert tests.stdout is not None
        started = json.loads(tests.stdout.readline())
        assert all(map(psutil.pid_exists, started))

        tests.send_signal(number)

    eventually(lambda: not any(map(is_alive, started)))


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_killing_a_process_takes_what_is_below_it_along(tmp_path):
    shell = Process(["sh", "-c", "sleep 600 & sleep 600"], log=tmp_path / "log")
    shell.start()
    eventually(lambda: len(shell.descendants()) == 2)
    below = [one.pid for one in shell.descendants()]

    shell.kill()

    assert not any(map(is_alive, below))


def test_a_process_tells_its_end_and_its_last_words(tmp_path):
    process = Process(
        ["sh", "-c", "echo $NAME; exit 3"], log=tmp_path / "log", env={"NAME": "x"}
    )

    process.start()

    assert process.wait() == 3
    assert process.tail() == "x"
    assert not process.running
    assert os.getpid() != process.pid
