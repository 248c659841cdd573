"""Bodies of the races: each tells who else of its type runs, and ends in the way that is asked."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import taskcontrol
from taskcontrol.context import current_task
from tests import tasks
from tests.faults.company import in_company
from tests.recording import ENDED, STARTED, record

#: Longer than any scenario.
FOR_EVER = 600


def limited_1(kind: str, seconds: float) -> None:
    """Run alone."""
    _limited("limited_1", kind, seconds)


def limited_2(kind: str, seconds: float) -> None:
    """Run beside one other."""
    _limited("limited_2", kind, seconds)


def limited_5(kind: str, seconds: float) -> None:
    """Run beside four others."""
    _limited("limited_5", kind, seconds)


def limited_17(kind: str, seconds: float) -> None:
    """Run beside sixteen others."""
    _limited("limited_17", kind, seconds)


def _limited(name: str, kind: str, seconds: float) -> None:
    task = current_task()
    assert task is not None
    assert task.row.queued_at is not None
    sent = task.row.queued_at.timestamp()
    with in_company(name) as company:
        now = time.time()  # noqa: TID251 - compared with times of rows
        record(STARTED, type=name, kind=kind, company=company, sent=sent, clock=now)
        try:
            # What ends badly does so once: its next attempt is as any other.
            _end(kind if task.attempt == 1 else "ok", seconds)
        finally:
            record(ENDED, type=name)


def _end(kind: str, seconds: float) -> None:
    if kind.startswith(GATE):
        await_gate(Path(kind.removeprefix(GATE)))
    else:
        KINDS[kind](seconds)


def await_gate(gate: Path) -> None:
    """Wait until somebody has made this file."""
    while not gate.exists():
        time.sleep(0.01)


def _fail(seconds: float) -> None:
    time.sleep(seconds)
    raise ValueError("as asked")


def _die(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _swallow(_seconds: float) -> None:
    while True:
        with suppress(BaseException):
            time.sleep(0.05)


def _sit_in_c(_seconds: float) -> None:
    """Wait in C for what never comes; the interpreter is free, but nothing wakes it."""
    library = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(128)
    library.pthread_mutex_init(mutex, None)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


#: How a body may end; or with this before the path of a file, when that is there.
GATE = "gate "
KINDS: dict[str, Callable[[float], Any]] = {
    "ok": time.sleep,
    "fail": _fail,
    "die": _die,
    "over_time": lambda _: time.sleep(FOR_EVER),
    "swallow": _swallow,
    "in_c": _sit_in_c,
}


# What does not stop when it is asked, or not soon


def sleep_in_c() -> None:
    """Sleep in C with the interpreter held; a signal wakes it for a moment."""
    tasks.sleep_in_c(FOR_EVER)


def backtrack() -> None:
    """Let a regular expression try for ever; it looks for signals now and then."""
    record(STARTED)
    re.match(r"(a+)+$", "a" * 64 + "b")


def compute() -> None:
    """Let C compute for ever, which looks for nothing and holds the interpreter."""
    record(STARTED)
    sum(range(10**13))


def blocked_in_c() -> None:
    """Wait in C for what never comes, with the interpreter held."""
    tasks.block_in_c(hold_interpreter=True)


def swallow() -> None:
    """Catch whatever is raised into it."""
    tasks.swallow_everything(FOR_EVER)


def cooperate() -> None:
    """Ask now and then."""
    tasks.cooperate(FOR_EVER)


def sleep() -> None:
    """Sleep as most code waits."""
    tasks.sleep(FOR_EVER)


def with_children() -> None:
    """Start processes that start others, and wait for them whatever is raised."""
    command = ["sh", "-c", f"sleep {FOR_EVER} & sleep {FOR_EVER}"]
    children = [subprocess.Popen(command) for _ in range(2)]
    record("children", pids=[child.pid for child in children])
    tasks.swallow_everything(FOR_EVER)


# What wakes after others have done its work


def late(gate: str, way: str, stays: bool) -> str:
    """Write in ``way`` when the first attempt may go on, which then is too late.

    It may when the file ``gate`` is there. A later attempt says that all is well: at once,
    or if it ``stays`` when the file ``gate`` + "-2" is there.
    """
    task = current_task()
    assert task is not None
    record(STARTED)
    first = task.attempt == 1
    if first or stays:
        await_gate(Path(gate if first else f"{gate}-2"))
    record("goes on")
    return str(WAYS[way]()) if first else "well"


def called(job: Any) -> None:
    """Write down that a callback was called."""
    record("called", job=job.pk)


def _report() -> str:
    for number in range(5):
        taskcontrol.notify_task_status(
            {"progress": {"count": number, "total": 5, "description": "late"}}
        )
        time.sleep(0.05)
    return "late"


def _raise() -> str:
    raise RuntimeError("late")


def _ask_for_retry() -> str:
    raise taskcontrol.Retry(0)


def _stay() -> str:
    _swallow(FOR_EVER)
    return "late"


#: What a body that woke too late tries to write.
WAYS: dict[str, Callable[[], str]] = {
    "result": lambda: "late",
    "progress": _report,
    "error": _raise,
    "retry": _ask_for_retry,
    "stay": _stay,
}


# What goes again and again


def fail_counted() -> None:
    """Write its start down and fail."""
    record(STARTED)
    raise ValueError("it failed")


def kill_itself() -> None:
    """Write its start down and die."""
    record(STARTED)
    os.kill(os.getpid(), signal.SIGKILL)


#: The most that a body of these may hold.
ENOUGH = 64 << 20


def fill_its_cgroup(cgroup: str) -> None:
    """Hold more and more, in a cgroup with a limit, until the kernel kills this process."""
    record(STARTED)
    (Path(cgroup) / "cgroup.procs").write_text(str(os.getpid()))
    _hold_more_and_more()


def pass_its_limit() -> None:
    """Hold more and more until this process is refused it."""
    record(STARTED)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ENOUGH, before[1]))
    try:
        _hold_more_and_more()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _hold_more_and_more() -> None:
    held = []
    while True:
        held.append(bytearray(b"x") * (8 << 20))
