"""Signals that may stop a body, and keep out of everything else in a worker's child."""

from __future__ import annotations

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from billiard.common import terminate_handler_fired
from billiard.exceptions import SoftTimeLimitExceeded

from .exceptions import TaskCanceled
from .models import TaskLog

#: Asks the child that runs a canceled attempt to stop its body. Not SIGTERM: that one
#: ends the process, and a new one would have to be made for every cancel.
CANCEL = signal.SIGUSR2
#: Celery's soft time limit.
TIMEOUT = signal.SIGUSR1

_stoppable: list[tuple[int, int]] = []


def install() -> None:
    """Take the cancel signal in a worker's child."""
    signal.signal(CANCEL, _on_cancel)


def install_time_limit() -> None:
    """Take Celery's soft time limit too, in a child that goes from body to body by itself."""
    signal.signal(TIMEOUT, _on_time_limit)


#: Whether a signal that comes now is for what runs now; None where Celery sees to that.
_meant: Callable[[], bool] | None = None


def expect(meant: Callable[[], bool] | None) -> None:
    """Say how to tell whether a signal is for what runs from now on."""
    global _meant
    _meant = meant


def _is_meant() -> bool:
    return _meant is None or _meant()


def _on_cancel(_signum: int, _frame: Any) -> None:
    # Between two bodies there is nothing to stop: the one that was meant has ended.
    if _stoppable and _is_meant():
        raise TaskCanceled


def _on_time_limit(_signum: int, _frame: Any) -> None:
    if _is_meant():
        raise SoftTimeLimitExceeded


@contextmanager
def allowed(row: TaskLog) -> Iterator[None]:
    """Let the signals stop the block; after it they wait until ``forget``.

    A time limit that fell into the writing of the end would leave the row Started.
    """
    _stoppable.append((row.pk, row.attempt))
    try:
        _unblock()
        yield
    finally:
        _block()
        _stoppable.clear()


@contextmanager
def no_alarm_left() -> Iterator[None]:
    """Stop an alarm that the block has set: it would ring in an end, or in the next body.

    One that ran before is somebody else's.
    """
    free = in_main_thread() and not signal.getitimer(signal.ITIMER_REAL)[0]
    try:
        yield
    finally:
        if free:
            signal.setitimer(signal.ITIMER_REAL, 0)


def forget() -> None:
    """Drop the signals that came too late, and take them again."""
    _stoppable.clear()
    if in_main_thread():
        while signal.sigtimedwait(_OURS, 0) is not None:
            continue
    _unblock()


def process_must_go() -> bool:
    """Return whether this process was told to end, which a body cannot refuse."""
    return bool(terminate_handler_fired())


#: Seconds within which a worker says to its children that it leaves: who stops it may tell
#: all processes at once.
LEAVING_TAKES = 1.0
#: In memory that a worker's main process and its children share.
_leaving = mmap.mmap(-1, 1)


def note_leaving() -> None:
    """Let this worker's children know that it leaves; a Unix signal handler may call it."""
    _leaving[0] = 1


def worker_leaves() -> bool:
    """Return whether this process was told to end because its worker leaves."""
    until = time.monotonic() + LEAVING_TAKES
    while not _leaving[0] and time.monotonic() < until:
        time.sleep(0.02)
    return bool(_leaving[0])


_main_process: int | None = None


def mark_main_process() -> None:
    """Remember that this process is a worker's main one; its children are not."""
    global _main_process
    _main_process = os.getpid()


def in_main_process() -> bool:
    """Return whether this is a worker's main process."""
    return _main_process == os.getpid()


_OURS = {CANCEL, TIMEOUT}


def _block() -> None:
    if in_main_thread():
        signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def _unblock() -> None:
    if in_main_thread():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)


def in_main_thread() -> bool:
    """Return whether this thread is the one that signals reach."""
    return threading.current_thread() is threading.main_thread()
