"""What a worker's children run by hand: begun, too long at it, to be stopped, or lost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from signal import Signals
from typing import TYPE_CHECKING, Any

import psutil
from billiard.common import human_status

from . import held, interrupts, lifecycle, losses
from .conf import conf
from .deck import Claimed, Deck
from .execution import here
from .hand import BEGUN_AFTER, Hand

if TYPE_CHECKING:
    from .journal import Journal

#: Seconds after which what a child has not begun is given to others.
PATIENCE = 0.5
#: Seconds from asking a process to end to killing it, as Celery's at a hard time limit.
LAST_WORDS = 0.1


class AtWork:
    """Looks at what runs, in the thread that gives it out."""

    def __init__(self, boot: Any, deck: Deck, journal: Journal) -> None:
        self.boot, self.deck, self.journal = boot, deck, journal
        #: Whether this worker is stopped cold: no body goes on.
        self.cold = False

    def tell_begun(self, hand: Hand, one: Claimed, *, asked: bool = False) -> None:
        """Let it be written that a body runs; ``asked``: it waits for the word that it is."""
        page = hand.page
        if not one.told_begun or asked:
            one.told_begun = True
            self.journal.began(one, hand.process.pid, page, asked=asked)

    def signal(self, hand: Hand, one: Claimed, number: Signals) -> bool:
        """Send a signal to a child while this attempt runs there, and for no other."""
        page = hand.page
        with self.deck.lock, suppress(ProcessLookupError, psutil.NoSuchProcess):
            before = page.halt
            if number not in {Signals.SIGKILL, Signals.SIGTERM}:
                page.aim = one.number
            else:
                page.halt = one.number
            if page.current != one.number or hand.line.closed or hand.is_dead():
                page.halt = before  # another signal may be on its way there
                return False
            if number == Signals.SIGKILL:
                held.kill_tree(psutil.Process(hand.process.pid))
            else:
                os.kill(hand.process.pid, number)
        return True

    def look(self, hands: Iterable[Hand]) -> None:
        """Look at each child: kill what had its last words, and mind what runs."""
        now = time.monotonic()
        for hand in hands:
            if hand.kill_at is not None and now > hand.kill_at:
                hand.kill_at = None
                self._kill(hand)
            if hand.marked:
                hand.mark()  # again: Celery forgets it when it connects anew
            if hand.given:
                self._look_at(hand, now)

    def cut_off(self, hand: Hand) -> bool:
        """A child that lives has closed its line; return whether a body there is to be ended.

        What it runs by hand can never be answered for, and may be anywhere in it: it is lost
        when the process is dead, and not before.
        """
        self.take_back(hand)
        if hand.page.left or not hand.given:
            return False
        hand.kill_at = time.monotonic() + LAST_WORDS  # it may be about to exit by itself
        return True

    def _kill(self, hand: Hand) -> None:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if hand.is_dead():
                return
            if hand.line.closed:
                held.kill_tree(psutil.Process(hand.process.pid))
            else:
                os.kill(hand.process.pid, Signals.SIGKILL)

    def _look_at(self, hand: Hand, now: float) -> None:
        one, since = hand.at_work, hand.page.since
        if one is None:
            if now - max(hand.heard_at, since) > PATIENCE:
                self.take_back(hand)
                hand.silent = True
            return
        ran = now - since
        if ran > BEGUN_AFTER:
            self.tell_begun(hand, one)
            hand.linger(one)
            if len(hand.given) > 1:
                self.take_back(hand)
        self._mind_limits(hand, one, ran)
        if self.cold and hand.kill_at is None:
            self._stop_body(hand, one)

    def _stop_body(self, hand: Hand, one: Claimed) -> None:
        """Give its task back, uncounted, and end its process."""
        self.tell_begun(hand, one)
        self.boot.keeper.do(partial(losses.give_back_by_key, *one.key))
        if self.signal(hand, one, Signals.SIGTERM):
            hand.kill_at = time.monotonic() + conf.CANCEL_GRACE

    def take_back(self, hand: Hand) -> None:
        """Give to others what this child was given and has not begun."""
        if not hand.unbegun():
            return
        hand.page.taken_back = hand.number
        back = hand.unbegun()
        for one in back:
            del hand.given[one.number]
            hand.bytes -= one.bytes
        self.deck.put_back(back)
        hand.unmark()

    def _mind_limits(self, hand: Hand, one: Claimed, ran: float) -> None:
        timeout = one.card.timeout
        if ran > timeout and not one.warned:
            one.warned = True
            self.signal(hand, one, interrupts.TIMEOUT)
        if ran > timeout + conf.CANCEL_GRACE and not one.overdue:
            one.overdue = True
            self.boot.keeper.do(partial(self.boot.lookout.timed_out, *one.key))
            if self.signal(hand, one, Signals.SIGTERM):
                hand.kill_at = time.monotonic() + LAST_WORDS

    def bury(self, hand: Hand) -> None:
        """A child is dead: what had begun there is lost, the rest goes to others."""
        unbegun = hand.unbegun()
        self.deck.put_back(unbegun)
        for one in hand.given.values():
            if one not in unbegun:
                one.answered = True
                loss = _Loss(self, one, hand.process, since=hand.page.since)
                self.boot.keeper.do(loss)
        hand.given.clear()
        hand.unmark()


class _Loss:
    """An errand of the keeper: a child died over an attempt."""

    def __init__(
        self, running: AtWork, one: Claimed, process: Any, *, since: float
    ) -> None:
        self.running, self.one, self.process, self.since = running, one, process, since
        self._until = time.monotonic() + 2.0
        self._begun = False

    def __call__(self) -> bool | None:
        code = self.process.exitcode
        if code is None and time.monotonic() < self._until:
            return False
        key, lookout = self.one.key, self.running.boot.lookout
        if not self._begun:
            lifecycle.begin(
                *key, worker_id=here.worker_id, pid=self.process.pid, since=self.since
            )
            self._begun = True
        self.running.deck.settle([key])
        status = human_status(code) if code is not None else "unknown"
        written: bool = lookout.process_lost(*key, f"Worker exited prematurely: {status}")
        return written
