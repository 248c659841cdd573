"""One process that a test starts, stops, kills and freezes; it never outlives the tests."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.lab import LAB
from tests.waiting import eventually

LEASH = Path(__file__).with_name("leash.py")


def on_leash(command: Sequence[str], user: str, last_signal: int) -> list[str]:
    """Return the command that runs ``command`` as ``user`` and no longer than this process."""
    head = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]
    return [*head, str(int(last_signal)), user, *command]


def run(command: Sequence[str], user: str = "") -> None:
    """Run ``command`` to its end; what it said is in the error when it fails."""
    done = subprocess.run(
        on_leash(command, user, signal.SIGKILL), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def wait_until_dead(processes: Sequence[psutil.Process], timeout: float = 10) -> None:
    """Wait until none runs; whose parent is dead too may be left unburied for a while."""
    eventually(lambda: not any(map(_runs, processes)), timeout)


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def kill_child(pid: int) -> bool:
    """Kill a child of one of our processes; False if it is gone.

    By then a process of anybody may have its number, a worker of another run for example.
    """
    with suppress(psutil.Error):
        child = psutil.Process(pid)
        parent = child.parent()
        if parent and parent.environ().get("TASKCONTROL_TEST_DIR") == str(LAB):
            child.kill()
            return True
    return False


class Process:
    """A command with its log file and the signals that tests send it."""

    #: What the process gets when the tests are killed.
    last_signal = signal.SIGKILL

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        user: str = "",
    ) -> None:
        self.command, self.log, self.user = list(command), log, user
        self.env = {**os.environ, **(env or {})}
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the one that was started last."""
        assert self._popen is not None, "not started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it is there."""
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.running:
            return
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                on_leash(self.command, self.user, self.last_signal),
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the tests, which then stop it in order.
                start_new_session=True,
            )
        atexit.register(self.kill)

    def send(self, number: int) -> None:
        """Send a signal to the process itself."""
        os.kill(self.pid, number)

    def freeze(self) -> None:
        """Let it hang: it keeps its sockets and answers nothing."""
        process = psutil.Process(self.pid)
        process.suspend()
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, every=0.001)

    def thaw(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def wait(self, timeout: float = 20) -> int:
        """Wait for its end and return its exit status."""
        assert self._popen is not None, "not started"
        status = self._popen.wait(timeout)
        atexit.unregister(self.kill)
        return status

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """End it in order and return its exit status; kill it when it does not go."""
        if not self.running:
            return self.wait()
        self.send(number)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it and everything below it, as a crash of the machine would."""
        if not self.running:
            return
        below = self.descendants()
        self.send(signal.SIGKILL)
        for one in below:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.wait()
        wait_until_dead(below)

    def descendants(self) -> list[psutil.Process]:
        """Return the processes below it."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def tail(self, lines: int = 40) -> str:
        """Return the end of its log, for the message of a test that fails."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
