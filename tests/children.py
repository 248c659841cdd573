"""Processes that stand for the children of a pool, and what the pool keeps of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from billiard.einfo import ExceptionInfo
from billiard.pool import ApplyResult

from taskcontrol import held
from taskcontrol.held import Held

#: Starts a process of its own, says its number, and goes on whatever it is told.
STUBBORN = "trap '' USR2; sleep 600 & echo $!; exec sleep 600"


class Child(subprocess.Popen):
    """A process that runs until it is killed, and has started another one."""

    def __init__(self) -> None:
        super().__init__(
            ["/bin/sh", "-c", STUBBORN], stdout=subprocess.PIPE, text=True, process_group=0
        )
        assert self.stdout is not None
        self.grandchild = psutil.Process(int(self.stdout.readline()))


@contextmanager
def a_child() -> Iterator[Child]:
    """Start a child, and end it with what it started."""
    with Child() as process:
        try:
            yield process
        finally:
            for one in (process.grandchild, process):
                with suppress(psutil.NoSuchProcess):
                    one.kill()


def gives(child: Child, task_id: int, attempt: int = 1) -> ApplyResult:
    """Let the pool give an attempt to ``child``; return what it keeps of it."""
    job = ApplyResult({}, None)
    held.accepted(Held((task_id, attempt), child.pid, psutil.Process(child.pid), job))
    return job


def answers(job: ApplyResult, error: Exception | None = None) -> None:
    """Let the pool read the answer of a child."""
    try:
        raise error or ValueError  # noqa: TRY301 - it is to have a traceback
    except Exception:  # noqa: BLE001 - what a body may raise
        job._set(0, (error is None, ExceptionInfo()))


def runs(process: psutil.Process) -> bool:
    """Return whether a process is there and not just its remains."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
