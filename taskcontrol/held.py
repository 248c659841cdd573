"""Which child of this worker holds which attempt, and how to stop exactly that one."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from celery.worker.request import Request


@dataclass
class Held:
    """One attempt that this worker gave to a process or thread of its pool."""

    pid: int
    request: Any
    #: The process, told from a later one with the same pid; None for a thread.
    process: psutil.Process | None
    #: Celery forgets a request at the hard limit, before the process is dead.
    timed_out: bool = False

    def body_is_gone(self) -> bool:
        """Return whether the process is dead or has answered for this attempt."""
        if self.process is not None and not _is_alive(self.process):
            return True
        return not self.timed_out and self.is_answered()

    def is_answered(self) -> bool:
        """Return whether the pool has read the child's answer."""
        reference = self.request._apply_result  # noqa: SLF001 - Celery has no other way
        job = reference() if reference is not None else None
        if job is None:
            return reference is not None
        return bool(job.ready()) if hasattr(job, "ready") else False


_held: dict[tuple[int, int], Held] = {}


def accepted(task_id: int, attempt: int, held: Held) -> None:
    """Note that a child began with an attempt: what it held before is over."""
    if held.process is not None:
        for key, other in list(_held.items()):
            if other.pid == held.pid:
                _held.pop(key, None)
    _held[task_id, attempt] = held


def find(task_id: int, attempt: int) -> Held | None:
    """Return who holds an attempt, or None when nobody here does."""
    return _held.get((task_id, attempt))


def drop(task_id: int, attempt: int) -> None:
    """Forget an attempt whose body is gone."""
    _held.pop((task_id, attempt), None)


def sweep() -> None:
    """Forget what has ended."""
    for key, held in list(_held.items()):
        if held.body_is_gone():
            _held.pop(key, None)


def everything() -> list[tuple[int, int]]:
    """Return the (task id, attempt) pairs that this worker holds."""
    return list(_held)


def kill(task_id: int, attempt: int, number: signal.Signals) -> bool:
    """Send a signal to the process that runs an attempt, and to no other.

    Call it in the worker's event loop: a child is given a new task only after the loop has
    read its answer to the last one, so within the loop "not answered" means "still at it".
    """
    held = _held.get((task_id, attempt))
    if held is None or held.process is None or held.body_is_gone():
        return False
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        if number == signal.SIGKILL:
            for child in held.process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        os.kill(held.pid, number)
    return True


class HeldRequest(Request):
    """A Celery request that notes which child took it."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """The child ``pid`` begins."""
        process = None
        if pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
        task_id, attempt = self.args
        accepted(task_id, attempt, Held(pid, self, process))
        super().on_accepted(pid, time_accepted)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - Celery's signature
        """The time limit has come."""
        if not soft:
            held = find(*self.args)
            if held is not None:
                held.timed_out = True
        super().on_timeout(soft, timeout)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
