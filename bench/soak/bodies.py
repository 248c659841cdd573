"""What a site at work runs: short and long, with limits, failing, talking."""

from __future__ import annotations

import time

import taskcontrol
from bench import bodies

noop = bodies.noop


def compute(milliseconds: float) -> int:
    """Use the processor."""
    until, number = time.perf_counter() + milliseconds / 1000, 0
    while time.perf_counter() < until:
        number += 1
    return number


def wait(milliseconds: float) -> None:
    """Wait as for another service."""
    time.sleep(milliseconds / 1000)


def few(milliseconds: float) -> None:
    """Wait; its type has a limit."""
    time.sleep(milliseconds / 1000)


def remember(length: int) -> str:
    """Return a large result, and print as much."""
    said = "x" * length
    print(said)  # noqa: T201 - it stands in the debug log
    return said


def report(steps: int) -> None:
    """Say how far it is."""
    for step in range(steps):
        taskcontrol.notify_task_status({"progress": {"count": step, "total": steps}})
        time.sleep(0.05)


def stubborn() -> None:
    """Fail at first, as when another service is away; the second attempt succeeds."""
    task = taskcontrol.current_task()
    if task is not None and task.attempt == 1:
        raise ConnectionError("the other service is away")


def hopeless() -> None:
    """Fail always."""
    raise ValueError("no such customer")
