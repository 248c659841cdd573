"""What a worker gives by hand, without the worker: real lines, and children that the test plays."""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

from taskcontrol import lifecycle, lines, prefork
from taskcontrol.deck import Offer, Taken
from taskcontrol.hands import Hands
from taskcontrol.lines import Answer, Job, Lease, Line
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests.factories import make_task
from tests.mainprocess import a_boot

#: Of processes that there are not: Linux gives out no such number.
_pids = count(2**22 + 1)
#: Those that are open.
_lines: list[Line] = []
#: What the tests' bodies usually take.
USUAL = 0.001
RETURNED = (1.0, 55, "said", 7, None)


@contextmanager
def a_lease(monkeypatch) -> Iterator[Lease]:
    """Let this process hold a lease of its own."""
    lease = Lease()
    lease.renew(lease.clock(), 600)
    monkeypatch.setattr(lines, "lease", lease)
    yield lease


@contextmanager
def by_hand(row, monkeypatch) -> Iterator[Hands]:
    """Make the hands of the worker whose main process this is; its children are yet to come."""
    for name, nothing in (("processes", {}), ("on_change", []), ("on_cold_stop", [])):
        monkeypatch.setattr(prefork, name, nothing)
    boot = a_boot(row)
    boot.consumer.pool._pool = SimpleNamespace(_busy_workers=set(), outbound_buffer=deque())
    boot.hands = Hands(boot)
    yield boot.hands
    while _lines:
        line = _lines.pop()
        line.main_end.close()
        line.child_end.close()
    for end in (boot.hands._wake_read, boot.hands._wake_write):
        os.close(end)


class Child:
    """One child as its main process knows it, and what the test does in its place."""

    def __init__(self, hands: Hands, pid: int | None = None) -> None:
        self.line = Line()
        _lines.append(self.line)
        self.line.main_end.setblocking(False)
        self.pid = next(_pids) if pid is None else pid
        self.exitcode: int | None = None
        self.inqW_fd = self.line.main_end.fileno()
        prefork.processes[self.pid] = self
        self.hands = hands
        turn(hands)
        self.hand = hands._hands[self.line.main_end.fileno()]

    @property
    def page(self) -> Any:
        """What both sides see."""
        return self.line.page

    def jobs(self) -> list[Job]:
        """Return what it was given, without waiting."""
        found: list[Job] = []
        while select.select([self.line.child_end], [], [], 0)[0]:
            found += self.line.jobs()
        return found

    def runs(self, job: Job, seconds: float = 0.0) -> None:
        """Begin a body, so long ago."""
        self.page.begin(job.number)
        self.page._times[2] -= seconds

    def says(self, what: int, job: Job) -> None:
        """Answer for a job, and let the main process hear it."""
        now = time.monotonic()
        told = RETURNED if what == lines.RETURNED else ()
        if what != lines.ASKS:
            self.page.end()
        self.line.answer(Answer(job.number, what, now - 2, now - 1, told))
        turn(self.hands)

    def dies(self, code: int | None = -9) -> None:
        """End, and let the main process see it; None: its exit code is not known yet."""
        self.line.child_end.close()
        self.exitcode = code
        turn(self.hands)


def turn(hands: Hands) -> None:
    """Let the thread that gives and listens turn once."""
    hands._turn(wait=False)


def keeps(hands: Hands) -> None:
    """Let the keeper do what it was asked to."""
    hands.boot.keeper._run_errands()


def promoted(row, *tasks: TaskLog) -> list[lifecycle.Card]:
    """Let a pass promote tasks for the children of a worker."""
    keys = [task.pk for task in tasks]
    return lifecycle.promote_and_claim(keys, site="s", worker_id=row.pk)


def given(
    hands: Hands, row, *, usual: float | None = USUAL, once: bool = False, **columns: Any
) -> TaskLog:
    """Let a pass take a new task for this worker's children; return the task."""
    task = make_task(Status.PENDING, **columns)
    offer = Offer(row.pk, ["default"], 1, 1.0)
    offer.taken[task.pk] = Taken(usual, once)
    hands.take(promoted(row, task), offer)
    return task


def lets_time_pass(hands: Hands, seconds: float) -> None:
    """Let so many seconds go by for what was given and what waits."""
    for hand in hands._hands.values():
        hand.heard_at -= seconds
        hand.rests_until -= seconds
    for one in hands.deck.waiting:
        one.waits_since -= seconds
