"""Processes that are forked from a warm one, to die at a crash point."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.forkserver
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


@contextmanager
def nursery() -> Iterator[Any]:
    """Give what forks processes of the site in milliseconds, each with its own connections."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.warm"])
    try:
        yield context
    finally:
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


def live(story: str, queue: str, spec: str, log: Path) -> None:
    """Do what the story says, with crash points as ``spec`` says; run in a victim."""
    from taskcontrol import crashpoints
    from tests.faults.crashstories import STORIES

    # Also one that is stopped shall not outlive the tests.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with log.open("ab") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    os.environ[crashpoints.VARIABLE] = spec
    crashpoints.arm()
    STORIES[story](queue).act()
