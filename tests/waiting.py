"""Waiting for what other processes and threads do, and letting threads race."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")

#: How many times longer than on a machine with nothing else to do things may take.
PATIENCE = 3


def eventually(
    condition: Callable[[], T],
    timeout: float = 10,
    *,
    every: float = 0.02,
    why: Callable[[], str] | None = None,
) -> T:
    """Return the first true value of ``condition``, or fail in the end.

    ``timeout``: seconds that it may take on a machine with nothing else to do. ``why`` is asked
    for the end of the message when it fails: a log, a row.
    """
    timeout *= PATIENCE
    until = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            story = f"\n{why()}" if why else ""
            raise AssertionError(f"not within {timeout:g} s; last value: {value!r}{story}")
        _pause(every)


def always(condition: Callable[[], Any], seconds: float, *, every: float = 0.05) -> None:
    """Fail as soon as ``condition`` is not true within the next ``seconds``."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        assert value, f"no longer true: {value!r}"
        _pause(every)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def race(*callables: Callable[[], Any], timeout: float = 60) -> list[Any]:
    """Run each in a thread with connections of its own, released at one moment.

    Returns what each returned, or the exception that it raised, in the given order.
    """
    barrier = threading.Barrier(len(callables))

    def run(one: Callable[[], Any]) -> Any:
        try:
            connections["default"].ensure_connection()
            barrier.wait(timeout)
            return one()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(callables)) as pool:
        futures = [pool.submit(run, one) for one in callables]
        return [future.result(timeout) for future in futures]


def beside(call: Callable[[], T], timeout: float = 15) -> T:
    """Return what ``call`` returns in a thread with connections of its own.

    Fails when it is not done in time, without waiting for its end: it may be waiting for
    what this thread holds.
    """

    def run() -> T:
        try:
            return call()
        finally:
            connections.close_all()

    pool = ThreadPoolExecutor(1)
    future = pool.submit(run)
    pool.shutdown(wait=False)
    return future.result(timeout)


def race_over(
    rows: Sequence[Any], *actions: Callable[[Any], Any], timeout: float = 60
) -> list[list[Any]]:
    """Let ``actions`` race for each of ``rows``, one row after the other.

    Each action has a thread and a connection of its own, and all are released together at
    every row. Returns for each row what each action returned or raised.
    """
    barrier = threading.Barrier(len(actions))

    def run(action: Callable[[Any], Any]) -> list[Any]:
        answers = []
        try:
            for row in rows:
                barrier.wait(timeout)
                try:
                    answers.append(action(row))
                except Exception as error:  # noqa: BLE001 - the test looks at it
                    answers.append(error)
            return answers
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as pool:
        futures = [pool.submit(run, action) for action in actions]
        per_action = [future.result(timeout) for future in futures]
    return [list(answers) for answers in zip(*per_action, strict=True)]


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block is not done in time, without waiting for its end."""

    def too_late(_number: int, _frame: Any) -> None:
        raise AssertionError(f"not done within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, too_late)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
