"""The data folder: where it is, and that one ``up`` at a time works in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from taskcontrol.standalone import datafolder
from taskcontrol.standalone.datafolder import (
    AlreadyRunning,
    LeftoversRunning,
    claim,
    data_folder,
)

pytestmark = pytest.mark.only_on("sqlite")


def test_the_variable_names_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TASKCONTROL_DATA_DIR", str(tmp_path / "here"))

    assert data_folder() == tmp_path / "here"
    assert (tmp_path / "here" / ".gitignore").read_text() == "*\n"


def test_without_it_the_folder_lies_in_the_project(tmp_path, monkeypatch, settings):
    monkeypatch.delenv("TASKCONTROL_DATA_DIR", raising=False)
    settings.BASE_DIR = str(tmp_path)

    assert data_folder() == tmp_path / ".taskcontrol"


def test_a_second_claim_says_who_holds_it(tmp_path):
    with claim(tmp_path) as held:
        held.record(url="http://127.0.0.1:1")

        with (
            pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}, http://127.0.0.1:1"),
            claim(tmp_path),
        ):
            pass


def test_a_claim_is_free_after_its_end(tmp_path):
    for _ in range(2):
        with claim(tmp_path):
            pass


@contextmanager
def killed_up(folder, code="import signal; signal.pause()", note=None):
    """Leave behind what an ``up`` that was killed does: its lock, held by a child."""
    with claim(folder) as held:
        child = subprocess.Popen([sys.executable, "-c", code], pass_fds=[held.fd])
        held.record(children=[child.pid, 2**22 + 1])
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    file = folder / datafolder.NOTE
    file.write_text(json.dumps({**json.loads(file.read_text()), "pid": dead.pid}))
    if note is not None:
        file.write_text(note)
    with child:
        yield child
        child.kill()


def test_what_a_killed_up_left_behind_is_named_with_the_command_that_ends_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(datafolder, "LEFTOVERS", 0.0)

    with (
        killed_up(tmp_path) as left,
        pytest.raises(LeftoversRunning, match=rf"kill {left.pid}$"),
        claim(tmp_path),
    ):
        pass


def test_with_a_lost_note_the_lock_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(datafolder, "LEFTOVERS", 0.0)

    with (
        killed_up(tmp_path, note="{"),
        pytest.raises(LeftoversRunning, match=r"kill \$\(fuser .*/up\.lock\)$"),
        claim(tmp_path),
    ):
        pass


def test_what_a_killed_up_left_behind_is_given_time_to_end(tmp_path):
    ends_soon = "import time; time.sleep(0.5)"

    with killed_up(tmp_path, ends_soon), claim(tmp_path) as held:
        assert held.fd


@pytest.mark.parametrize("note", ["", "{", "{}"])
def test_a_note_that_cannot_be_read_stops_nobody(tmp_path, note):
    (tmp_path / "up.json").write_text(note)

    with claim(tmp_path) as held:
        assert held.fd
