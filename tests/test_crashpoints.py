"""``crashpoints.py``: nothing without its variable; a typo is an error; each thing once."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import OperationalError

import taskcontrol
from taskcontrol import crashpoints
from taskcontrol.status import Status

PACKAGE = Path(taskcontrol.__file__).parent


@pytest.fixture
def arm(monkeypatch):
    def arm(spec):
        monkeypatch.setenv(crashpoints.VARIABLE, spec)
        crashpoints.arm()

    yield arm
    monkeypatch.delenv(crashpoints.VARIABLE, raising=False)
    crashpoints.arm()


def called_points():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".reached"):
                (name,) = node.args
                if isinstance(name, ast.Constant):
                    yield name.value


def test_each_point_is_declared_and_stands_at_one_place():
    moves = {f"moved.{status.lower()}" for status in Status}

    assert sorted([*called_points(), *moves]) == sorted(crashpoints.POINTS)


def test_without_its_variable_a_point_is_a_function_that_does_nothing():
    assert crashpoints.reached is crashpoints._do_nothing


@pytest.mark.parametrize(
    "spec",
    [
        "dispatch.commit=kill:/f",
        "dispatch.committed=kil:/f",
        "dispatch.committed=kill",
        "dispatch.committed=kill:",
        "dispatch.committed",
        "dispatch.committed=kill:/f;",
        "nonsense",
    ],
)
def test_a_typo_is_an_error_when_the_process_starts(spec, arm):
    with pytest.raises(ValueError, match="POINT=KIND:FLAG"):
        arm(spec)


def test_a_process_with_a_typo_does_not_come_up():
    done = subprocess.run(
        [sys.executable, "-c", "import taskcontrol.crashpoints"],
        env={**os.environ, crashpoints.VARIABLE: "dispatch.commit=kill:/f"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "dispatch.commit" in done.stderr


def test_each_thing_happens_once_in_whatever_process(arm, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    arm(f"claim.won=error:{one}; claim.won=error:{two}")

    crashpoints.reached("claim.begun")
    for _ in range(2):
        with pytest.raises(OperationalError):
            crashpoints.reached("claim.won")
    crashpoints.reached("claim.won")

    assert one.read_text() == two.read_text() == str(os.getpid())


@pytest.mark.parametrize(
    ("kind", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)]
)
def test_a_process_kills_or_stops_itself_by_a_real_signal(kind, number, tmp_path):
    flag = tmp_path / "flag"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from taskcontrol import crashpoints as c; c.reached('claim.won')",
        ],
        env={**os.environ, crashpoints.VARIABLE: f"claim.won={kind}:{flag}"},
    )

    _, status = os.waitpid(process.pid, os.WUNTRACED)

    assert flag.read_text() == str(process.pid)
    if kind == "kill":
        assert os.WTERMSIG(status) == number
    else:
        assert os.WSTOPSIG(status) == number
        os.kill(process.pid, signal.SIGCONT)
        _, status = os.waitpid(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    process.returncode = 0


def test_only_connections_to_the_broker_are_cut(arm, tmp_path, celery_broker):
    near, far = celery_broker
    here, there = socket.socketpair()
    arm(f"publish.prepared=broker:{tmp_path / 'flag'}")

    crashpoints.reached("publish.prepared")

    assert far.recv(1) == b""
    assert near.recv(1) == b""
    here.send(b"!")
    assert there.recv(1) == b"!"
    for one in (here, there, near, far):
        one.close()


@pytest.fixture
def celery_broker(monkeypatch):
    """A connection to something that listens where the broker should."""
    from celery import current_app

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(current_app.conf, "broker_url", f"redis://127.0.0.1:{port}/0")
        near = socket.create_connection(("127.0.0.1", port))
        far, _ = server.accept()
        yield near, far
