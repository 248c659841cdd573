"""The one folder where ``up`` keeps what it makes, and the claim on it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from django.conf import settings

from ..exceptions import TaskControlError

#: Seconds that the processes of a killed ``up`` are given to follow it.
LEFTOVERS = 10.0
LOCK, NOTE = "up.lock", "up.json"


class AlreadyRunning(TaskControlError):
    """Another ``up`` works in this folder."""

    def __init__(self, pid: int, url: str) -> None:
        super().__init__(f"taskcontrol is already running here (pid {pid}, {url}).")


class LeftoversRunning(TaskControlError):
    """An ``up`` was killed, and what it had started goes on without it."""

    def __init__(self, folder: Path, pids: list[int]) -> None:
        numbers = " ".join(map(str, pids)) or f"$(fuser {folder / LOCK})"
        super().__init__(
            "An earlier `up` was killed, and processes that it had started are still "
            f"there. End them with: kill {numbers}"
        )


def data_folder() -> Path:
    """Return the folder, made and hidden from git."""
    given = os.environ.get("TASKCONTROL_DATA_DIR")
    base = Path(getattr(settings, "BASE_DIR", "."))
    folder = (Path(given) if given else base / ".taskcontrol").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    return folder


class Claim:
    """The right to work in the folder: a lock that the children of ``up`` hold too.

    So a new ``up`` cannot start a second broker on the data of one that has not ended yet.
    """

    def __init__(self, fd: int, note: Path) -> None:
        self.fd = fd
        self._note = note
        self._url = ""

    def record(self, url: str | None = None, children: list[int] | None = None) -> None:
        """Write down what another ``up`` should say about this one."""
        self._url = url or self._url
        note = {"pid": os.getpid(), "url": self._url, "children": children or []}
        self._note.write_text(json.dumps(note))


@contextmanager
def claim(folder: Path) -> Iterator[Claim]:
    """Hold ``folder``; raise when another ``up`` does."""
    note = folder / NOTE
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(fd, note)
        held = Claim(fd, note)
        held.record()
        yield held
    finally:
        os.close(fd)


def _lock(fd: int, note: Path) -> None:
    until = time.monotonic() + LEFTOVERS
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _refuse(note, patient=time.monotonic() < until)
        time.sleep(0.1)


def _refuse(note: Path, *, patient: bool) -> None:
    try:
        holder = json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        holder = {}
    if psutil.pid_exists(holder.get("pid", -1)):
        raise AlreadyRunning(holder["pid"], holder.get("url") or "still starting")
    if not patient:
        left = [pid for pid in holder.get("children", []) if psutil.pid_exists(pid)]
        raise LeftoversRunning(note.parent, left)
