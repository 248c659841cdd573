"""Gives the deck of a worker to its children, and takes their answers: one thread."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from . import bell, crashpoints, lifecycle, lines, prefork, watchers
from .announcing import anyone_listens
from .atwork import AtWork
from .conf import conf
from .deck import Claimed, Deck, Key, Offer, is_simple
from .execution import here
from .hand import Hand, HeldByHand, best
from .journal import Journal
from .lifecycle import Card
from .lines import Answer, Job
from .slots import LOOKAHEAD
from .unwritten import UnwrittenEnd

logger = logging.getLogger("taskcontrol")

#: Seconds between two looks at what runs.
LOOK = 0.01
#: The same while only what is long runs.
LOOK_SELDOM = 0.25
#: Seconds that what was claimed waits for a child.
WAITS_FOR = 0.5
#: Seconds for which an answer waits for others, while its child has more to do.
GATHER = 0.004


class Hands:
    """The children of this worker that take jobs without the broker."""

    def __init__(self, boot: Any) -> None:
        self.boot = boot
        self.deck = Deck()
        self.journal = Journal(self.deck)
        self.running = AtWork(boot, self.deck, self.journal)
        self._hands: dict[int, Hand] = {}
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._poll.register(self._wake_read, select.POLLIN)
        self._woken = select.poll()
        self._woken.register(self._wake_read, select.POLLIN)
        self._over = False
        #: When it looks next whether a child is dead whose line is open.
        self._deaths_at = 0.0

    # What others ask of it, in any thread

    def wake(self) -> None:
        """Look at once; a Unix signal handler may call it."""
        with suppress(OSError):
            os.write(self._wake_write, b"!")

    def offer(self) -> Offer | None:
        """Return what this worker would take of a pass; None when it takes nothing."""
        worker = here.worker_id
        if self.boot.leaving or self._over or worker is None or not lines.lease.holds():
            return None
        if watchers.wants_events(getattr(self.boot.consumer, "event_dispatcher", None)):
            return None
        with self.deck.lock:
            hands = [hand for hand in self._hands.values() if hand.is_free()]
            idle = sum(not hand.given for hand in hands)
            serves = sum(all(one.short for one in hand.given.values()) for hand in hands)
            left = serves * LOOKAHEAD - self.deck.seconds()
            places = idle - len(self.deck.waiting)
        if not hands:
            return None
        each = dict(self.deck.each)
        return Offer(worker, self.boot.queues(), places, left, each)

    def take(self, cards: Iterable[Card], offer: Offer) -> None:
        """Give what a pass has promoted for this worker to its children."""
        crashpoints.reached("deck.claimed")
        heard = anyone_listens() or bool(conf.AFTER_JOB)
        self.deck.put(
            Claimed(
                card,
                offer.taken[card.pk],
                writes_itself=heard or not is_simple(card, offer.taken[card.pk]),
                takes=self.deck.each.get(card.method),
            )
            for card in cards
        )
        try:
            crashpoints.reached("deck.put")
            self._give()
        finally:
            self.wake()  # the thread may be asleep, and is to look after them

    def keys(self) -> list[Key]:
        """Return the attempts that this worker vouches for, first those whose bodies run."""
        at_work = {one.key for hand in list(self._hands.values()) if (one := hand.at_work)}
        return sorted(self.deck.all, key=lambda key: key not in at_work)

    def has(self, key: Key) -> bool:
        """Return whether this worker still has to do with an attempt."""
        return key in self.deck.all

    def forget(self) -> None:
        """Forget everything: this worker was declared lost, and others have its tasks."""
        with self.deck.lock:
            self.deck.take_waiting()
            self.deck.settle(list(self.deck.all))

    def drop(self, key: Key) -> bool:
        """Forget an attempt that no child has; False if one has it, or it is not here."""
        return self.deck.drop(key)

    def find(self, key: Key) -> HeldByHand | None:
        """Return the child that was given an attempt."""
        for hand in list(self._hands.values()):
            for one in list(hand.given.values()):
                if one.key == key:
                    return HeldByHand(hand, one)
        return None

    def kill(self, key: Key, number: signal.Signals) -> bool:
        """Send a signal to the child in which this attempt runs now, and for no other."""
        found = self.find(key)
        return found is not None and self.running.signal(found.hand, found.one, number)

    # The thread

    def serve_for_ever(self) -> None:
        """Give and take until ``stop``."""
        prefork.on_change.append(self.wake)
        prefork.on_cold_stop.append(self.stop_bodies)
        while not self._over:
            try:
                self._turn()
            except Exception:
                logger.exception("The children of this worker could not be served.")
                time.sleep(LOOK_SELDOM)
        with self.deck.lock:
            self._turn(wait=False)

    def stop_bodies(self) -> None:
        """Let no body go on: this worker is stopped cold. A Unix signal handler calls it."""
        self.boot.leave()
        self.running.cold = True
        self.wake()

    def stop(self) -> None:
        """End the thread; the children have ended by now."""
        self._over = True
        self.wake()

    def _turn(self, *, wait: bool = True) -> None:
        with self.deck.lock:
            self._meet_new_ones()
            pause = self._pause() if wait else 0.0
        ready = dict(self._poll.poll(None if pause is None else pause * 1000))
        if wait and self._can_wait(ready):
            self._woken.poll(GATHER * 1000)
        with self.deck.lock:
            if self._wake_read in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 65536)
            for fd, events in ready.items():
                if fd in self._hands:
                    self._attend(self._hands[fd], events)
            self._bury_the_dead()
            self.running.look(self._hands.values())
            if self.boot.leaving:
                self._give_all_back()
            else:
                self._give()
                self._give_back_what_waits_long()

    def _can_wait(self, ready: Collection[int]) -> bool:
        """Return whether all who have answered are at the next job, with others behind it."""
        return bool(ready) and all(
            fd in self._hands and self._hands[fd].has_more() for fd in ready
        )

    def _pause(self) -> float | None:
        given = [one for hand in self._hands.values() for one in hand.given.values()]
        if any(hand.kill_at for hand in self._hands.values()):
            return LOOK
        if not given and not self.deck.waiting:
            return None
        if any(not one.keeps_its_child for one in given):
            return LOOK  # it is short, and may begin to linger
        return LOOK_SELDOM if not self.deck.waiting else LOOK

    def _meet_new_ones(self) -> None:
        for process in list(prefork.processes.values()):
            fd = process.line.main_end.fileno()
            if fd >= 0 and fd not in self._hands:
                self._hands[fd] = Hand(process, self.boot)
                self._poll.register(fd, select.POLLIN)

    def _attend(self, hand: Hand, events: int) -> None:
        if events & select.POLLOUT:
            hand.line.send_on()
            if not hand.line.unsent:
                self._poll.modify(hand.line.main_end.fileno(), select.POLLIN)
        if events & ~select.POLLOUT:
            self._listen(hand)

    def _listen(self, hand: Hand) -> None:
        self._hear_all(hand)
        hand.heard_at, hand.silent = time.monotonic(), False
        if hand.line.closed:
            self._poll.unregister(hand.line.main_end.fileno())
            if hand.is_gone() or not self.running.cut_off(hand):
                self._bury(hand)

    def _hear_all(self, hand: Hand) -> None:
        for answer in hand.line.answers():
            self._hear(hand, answer)

    def _hear(self, hand: Hand, answer: Answer) -> None:
        if answer.what == lines.ASKS:
            one = hand.given.get(answer.number)
            if one is not None:
                self.running.tell_begun(hand, one, asked=True)
            return
        one = hand.given.pop(answer.number, None)
        if one is None:
            return  # it was taken back
        hand.bytes -= one.bytes
        hand.unmark()
        if answer.what == lines.UNBEGUN:
            self.deck.put_back([one])
            hand.rest()
            return
        over = answer.what in {lines.RETURNED, lines.UNWRITTEN}
        self.deck.note_answer(one, over=over)
        if answer.what == lines.RETURNED:
            self.deck.learn(one.card.method, answer.ended - answer.began)
            self.journal.ended(one, _ran(one, hand.process.pid, answer))
        elif answer.what == lines.REFUSED:
            self.boot.keeper.do(
                partial(self._let_go, [one.key], "its child did not claim it")
            )
        elif answer.what == lines.UNWRITTEN:
            self.boot.keeper.do(UnwrittenEnd(self.deck, one, hand.process.pid, answer))
        else:
            self.deck.settle([one.key])
            # Its child rang when the end was written, and a pass may have come before this.
            bell.ring()

    def _bury_the_dead(self) -> None:
        """Look who has exited: what a body forked may hold the line of a dead child open."""
        now = time.monotonic()
        all_of_them = now > self._deaths_at
        if all_of_them:
            self._deaths_at = now + LOOK_SELDOM
        for hand in list(self._hands.values()):
            if (hand.line.closed and hand.is_gone()) or (
                hand.line.child_is_dead or (all_of_them and hand.is_dead())
            ):
                self._hear_all(hand)
                self._bury(hand)

    def _bury(self, hand: Hand) -> None:
        fd = hand.line.main_end.fileno()
        with suppress(KeyError):  # it is not there since the line was closed
            self._poll.unregister(fd)
        del self._hands[fd]
        pid = hand.process.pid
        if prefork.processes.get(pid) is hand.process:
            del prefork.processes[pid]
        self.running.bury(hand)
        hand.line.main_end.close()

    # The deck

    def _give(self) -> None:
        with self.deck.lock:
            if self.boot.leaving or not lines.lease.holds():
                return
            given: dict[int, list[Job]] = {}
            hands = [hand for hand in self._hands.values() if hand.is_free()]
            loads = {id(hand): hand.seconds for hand in hands}
            waiting = self.deck.waiting
            while waiting:
                one = waiting[0]
                hand = best(hands, loads, one)
                if hand is None:
                    break
                waiting.popleft()
                loads[id(hand)] += one.seconds
                given.setdefault(id(hand), []).append(hand.take(one))
            for hand in hands:
                if id(hand) in given:
                    hand.heard_at = time.monotonic()
                    hand.line.give(given[id(hand)])
                    if hand.line.unsent:
                        events = select.POLLIN | select.POLLOUT
                        self._poll.modify(hand.line.main_end.fileno(), events)

    def _give_all_back(self) -> None:
        """This worker leaves: what has not begun is for others."""
        for hand in self._hands.values():
            self.running.take_back(hand)
        keys = self.deck.take_waiting()
        if keys:
            self.boot.keeper.do(partial(self._let_go, keys, "its worker left"))

    def _give_back_what_waits_long(self) -> None:
        """Celery has taken all children for something long: others may have one that is free."""
        waiting = self.deck.waiting
        if not waiting or time.monotonic() - waiting[0].waits_since < WAITS_FOR:
            return
        keys = self.deck.take_waiting()
        why = "its worker's children were busy"
        self.boot.keeper.do(partial(self._let_go, keys, why))

    def _let_go(self, keys: Collection[Key], why: str) -> None:
        """Give attempts back that have not begun here, uncounted, and free their places."""
        crashpoints.reached("deck.left")
        lifecycle.unsend(list(keys), detail=why, worker_id=here.worker_id)
        for key in keys:
            lifecycle.release(*key)
        self.deck.settle(keys)
        bell.ring()


def _ran(one: Claimed, pid: int, answer: Answer) -> tuple[Any, ...]:
    return (*one.key, pid, answer.began, answer.ended, *answer.told)
