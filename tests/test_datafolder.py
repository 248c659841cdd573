"""The data folder: where it is, and that one ``up`` at a time works in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from taskcontrol import datafolder
from taskcontrol.datafolder import AlreadyRunning, LeftoversRunning, claim, data_folder

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


def test_what_a_killed_up_left_behind_is_named_with_the_command_that_ends_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(datafolder, "LEFTOVERS", 0.0)
    with claim(tmp_path) as held:
        left = subprocess.Popen(
            [sys.executable, "-c", "import signal; signal.pause()"], pass_fds=[held.fd]
        )
        held.record(children=[left.pid, 2**22 + 1])
    note = tmp_path / "up.json"
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        stdout=subprocess.PIPE,
        check=True,
    )
    note.write_text(json.dumps({**json.loads(note.read_text()), "pid": int(dead.stdout)}))
    try:
        with pytest.raises(LeftoversRunning, match=rf"kill {left.pid}$"), claim(tmp_path):
            pass
    finally:
        left.kill()
        left.wait()


@pytest.mark.parametrize("note", ["", "{", "{}"])
def test_a_note_that_cannot_be_read_stops_nobody(tmp_path, note):
    (tmp_path / "up.json").write_text(note)

    with claim(tmp_path) as held:
        assert held.fd
