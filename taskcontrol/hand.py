"""One child of this worker: what it was given by hand, and whether Celery may give it a job."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import psutil

from .deck import BYTES, Claimed
from .lines import Job

#: Seconds of short work that a child is given at once.
GIVEN = 0.03
#: Seconds after which a body that still runs is written down as begun, and what waits behind
#: it is given to others.
BEGUN_AFTER = 0.02
#: Seconds for which a child is given nothing, so that Celery can give it a job.
RESTS = 0.01


class Hand:
    """One child and what it was given."""

    def __init__(self, process: Any, boot: Any) -> None:
        self.process, self.line, self._boot = process, process.line, boot
        self.page = process.line.page
        self.given: dict[int, Claimed] = {}
        self.bytes = 0
        self.number = 0
        #: When it answered or was given something last.
        self.heard_at = time.monotonic()
        self.kill_at: float | None = None
        #: Until when it is given nothing: it just gave something back, or Celery has a job.
        self.rests_until = 0.0
        #: Whether it has not begun in time what it was given, and has not said a word since.
        self.silent = False
        #: Whether it was marked here as busy, so that Celery gives it nothing.
        self.marked = False

    @property
    def seconds(self) -> float:
        """How much work it was given."""
        return sum(one.seconds for one in self.given.values())

    @property
    def at_work(self) -> Claimed | None:
        """The attempt whose body runs now."""
        return self.given.get(self.page.current)

    def lingers(self, now: float) -> bool:
        """Return whether what runs now has run for longer than what is short does."""
        return bool(self.page.current) and now - self.page.since > BEGUN_AFTER

    def unbegun(self) -> list[Claimed]:
        """Return what it was given and has not begun."""
        begun = self.page.begun
        return [one for number, one in self.given.items() if number > begun]

    def has_more(self) -> bool:
        """Return whether it has not begun all that it was given."""
        return bool(self.page.begun < self.number)

    def is_free(self) -> bool:
        """Return whether Celery has given this child nothing."""
        line = self.line
        if line.closed or line.child_is_dead or line.unsent:
            return False
        if self.page.halt or self.silent:
            return False
        now = time.monotonic()
        if now < self.rests_until or self.lingers(now):
            return False
        marked = self.process.inqW_fd in self._busy
        return not marked or self.marked

    def is_dead(self) -> bool:
        """Return whether its process has exited, whoever holds its line open."""
        return self.line.child_is_dead or self.process.exitcode is not None

    def is_gone(self) -> bool:
        """Return whether there is no such process: somebody else may have waited for it."""
        return self.is_dead() or not psutil.pid_exists(self.process.pid)

    @property
    def _pool(self) -> Any:
        """Celery's children; None when they have ended, while what they said is still heard."""
        return self._boot.consumer.pool._pool  # noqa: SLF001 - nothing else says so

    @property
    def _busy(self) -> set[int]:
        """The children that Celery gives nothing, by a number that it knows."""
        busy: set[int] | None = getattr(self._pool, "_busy_workers", None)
        return set() if busy is None else busy

    def rest(self) -> None:
        """Let Celery give it what it has, before it is given more from here."""
        self.rests_until = time.monotonic() + RESTS

    def linger(self, one: Claimed) -> None:
        """What was short as a rule takes long: Celery's next job is for a child that is idle.

        Where Celery was faster its job waits here, and the mark is its own.
        """
        one.lingers = True
        if self.process.inqW_fd not in self._busy:
            self.mark()

    def mark(self) -> None:
        """Keep Celery from giving a job to a child that is at something long."""
        self.marked = True
        self._busy.add(self.process.inqW_fd)
        if self.line.child_is_dead:  # asked afterwards: its number may be another's by now
            self._busy.discard(self.process.inqW_fd)

    def unmark(self) -> None:
        """Let Celery give to it again, unless it has something long from here.

        Celery's loop looks for a child that is free only when something wakes it: what waits
        there would be passed by all that waits here.
        """
        if not self.marked or any(one.keeps_its_child for one in self.given.values()):
            return
        self.marked = False
        if not self.line.child_is_dead:
            self._busy.discard(self.process.inqW_fd)
            if getattr(self._pool, "outbound_buffer", None):
                self.rest()
                self._boot.in_loop(_wake_up)

    def take(self, one: Claimed) -> Job:
        """Give it an attempt; return the job that is to be sent."""
        self.number += 1
        one.number = self.number
        self.given[one.number] = one
        self.bytes += one.bytes
        if not one.short:
            self.mark()
        values = None if one.writes_itself else one.card.values
        return Job(one.number, *one.key, values)


def _wake_up() -> None:
    """Do nothing: that Celery's loop turns is all."""


class HeldByHand:
    """An attempt in a child as ``held.find`` returns it."""

    def __init__(self, hand: Hand, one: Claimed) -> None:
        self.hand, self.one = hand, one
        self.key, self.pid = one.key, hand.process.pid

    def runs_for(self) -> float:
        """Return the seconds since its body began; 0 before that."""
        page = self.hand.page
        return time.monotonic() - page.since if page.current == self.one.number else 0.0

    def body_is_gone(self) -> bool:
        """Return whether its child has answered, or is dead."""
        return self.one.answered or self.hand.is_dead()


def best(hands: Collection[Hand], loads: dict[int, float], one: Claimed) -> Hand | None:
    """Return the child with the least to do that may be given this."""
    if not one.short:
        return next((hand for hand in hands if not hand.given), None)
    fit = (
        hand
        for hand in hands
        if not hand.given
        or (
            loads[id(hand)] + one.seconds <= GIVEN
            and hand.bytes + one.bytes <= min(BYTES, hand.line.room)
            and all(other.short for other in hand.given.values())
        )
    )
    return min(fit, key=lambda hand: loads[id(hand)], default=None)
