"""Gives the deck of a worker to its children, and takes their answers: one thread."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from billiard.common import human_status

from . import (
    bell,
    crashpoints,
    held,
    interrupts,
    lifecycle,
    lines,
    losses,
    prefork,
    watchers,
)
from .announcing import anyone_listens
from .conf import conf
from .deck import Claimed, Deck, Key, Offer, size_of
from .execution import here
from .journal import Journal
from .lifecycle import Card
from .lines import Answer, Job
from .slots import LOOKAHEAD, is_short

logger = logging.getLogger("taskcontrol")

#: Seconds of short work, and bytes, that a child is given at once.
GIVEN, BYTES = 0.03, 256_000
#: Seconds after which a body that still runs is written down as begun, and what waits behind
#: it is given to others.
BEGUN_AFTER = 0.02
#: Seconds between two looks at what runs.
LOOK = 0.01
#: The same while only what is long runs.
LOOK_SELDOM = 0.25
#: Seconds after which what a child has not begun is given to others.
PATIENCE = 0.5
#: Seconds that what was claimed waits for a child.
WAITS_FOR = 2.0
#: Seconds from asking a process to end to killing it, as Celery's at a hard time limit.
LAST_WORDS = 0.1


class Hand:
    """One child and what it was given."""

    def __init__(self, process: Any) -> None:
        self.process, self.line = process, process.line
        self.page = process.line.page
        self.given: dict[int, Claimed] = {}
        self.bytes = 0
        self.number = 0
        #: When it answered or was given something last.
        self.heard_at = time.monotonic()
        self.kill_at: float | None = None
        #: Until when it is given nothing, since it just gave something back.
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
        return self.one.answered or self.hand.line.closed


class Hands:
    """The children of this worker that take jobs without the broker."""

    def __init__(self, boot: Any) -> None:
        self.boot = boot
        self.deck = Deck()
        self.journal = Journal(self.deck)
        self._hands: dict[int, Hand] = {}
        self._poll = select.poll()
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._poll.register(self._wake_read, select.POLLIN)
        self._over = self._cold = False

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
            hands = [hand for hand in self._hands.values() if self._is_free(hand)]
            idle = sum(not hand.given for hand in hands)
            serves = sum(all(one.short for one in hand.given.values()) for hand in hands)
            left = serves * LOOKAHEAD - self.deck.seconds()
            places = idle - len(self.deck.waiting)
        if not hands:
            return None
        each = dict(self.deck.each)
        return Offer(worker, self.boot.facts["queues"], places, left, each)

    def take(self, cards: Iterable[Card], offer: Offer) -> None:
        """Give what a pass has promoted for this worker to its children."""
        crashpoints.reached("deck.claimed")
        usual, heard = offer.taken, anyone_listens() or bool(conf.AFTER_JOB)
        self.deck.put(
            Claimed(
                card,
                usual[card.pk],
                writes_itself=heard or not _is_simple(card, usual[card.pk]),
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
        """Return the attempts that this worker vouches for."""
        return list(self.deck.all)

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
        return found is not None and self._signal(found.hand, found.one, number)

    def _signal(self, hand: Hand, one: Claimed, number: signal.Signals) -> bool:
        page = hand.page
        with self.deck.lock, suppress(ProcessLookupError):
            if number not in {signal.SIGKILL, signal.SIGTERM}:
                page.aim = one.number
            else:
                page.halt = one.number
            if page.current != one.number or hand.line.closed:
                page.halt = 0
                return False
            if number == signal.SIGKILL:
                held.kill_children_of(hand.process.pid)
            os.kill(hand.process.pid, number)
        return True

    # The thread

    def serve_for_ever(self) -> None:
        """Give and take until ``stop``."""
        prefork.on_new_process.append(self.wake)
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
        self._cold = True
        self.wake()

    def stop(self) -> None:
        """End the thread; the children have ended by now."""
        self._over = True
        self.wake()

    def _turn(self, *, wait: bool = True) -> None:
        self._meet_new_ones()
        pause = self._pause() if wait else 0.0
        ready = self._poll.poll(None if pause is None else pause * 1000)
        with self.deck.lock:
            if any(fd == self._wake_read for fd, _ in ready):
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 65536)
            for fd, _ in ready:
                if fd in self._hands:
                    self._listen(self._hands[fd])
            self._look()
            if self.boot.leaving:
                self._give_all_back()
            else:
                self._give()
                self._give_back_what_waits_long()

    def _pause(self) -> float | None:
        given = [one for hand in self._hands.values() for one in hand.given.values()]
        if any(hand.kill_at for hand in self._hands.values()):
            return LOOK
        if not given and not self.deck.waiting:
            return None
        if any(not one.told_begun for one in given) or len(given) > len(self._hands):
            return LOOK
        return LOOK_SELDOM if not self.deck.waiting else LOOK

    def _meet_new_ones(self) -> None:
        for process in list(prefork.processes.values()):
            fd = process.line.main_end.fileno()
            if fd >= 0 and fd not in self._hands:
                self._hands[fd] = Hand(process)
                self._poll.register(fd, select.POLLIN)

    def _listen(self, hand: Hand) -> None:
        for answer in hand.line.answers():
            self._hear(hand, answer)
        hand.heard_at, hand.silent = time.monotonic(), False
        if hand.line.closed:
            self._bury(hand)

    def _hear(self, hand: Hand, answer: Answer) -> None:
        if answer.what == lines.ASKS:
            one = hand.given.get(answer.number)
            if one is not None:
                self._tell_begun(hand, one, asked=True)
            return
        one = hand.given.pop(answer.number, None)
        if one is None:
            return  # it was taken back
        hand.bytes -= one.bytes
        self._unmark(hand)
        if answer.what == lines.UNBEGUN:
            self.deck.put_back([one])
            hand.rests_until = time.monotonic() + LOOK
            return
        self.deck.note_answer(one)
        if answer.what == lines.RETURNED:
            self.deck.learn(one.card.method, answer.ended - answer.began)
            self.journal.ended(one, _ran(one, hand.process.pid, answer))
        elif answer.what == lines.REFUSED:
            self.boot.keeper.do(
                partial(self._let_go, [one.key], "its child did not claim it")
            )
        else:
            self.deck.settle([one.key])

    def _tell_begun(self, hand: Hand, one: Claimed, *, asked: bool = False) -> None:
        page = hand.page
        if not one.told_begun or asked:
            one.told_begun = True
            self.journal.began(one, hand.process.pid, page, asked=asked)

    # What runs

    def _look(self) -> None:
        now = time.monotonic()
        for hand in self._hands.values():
            if hand.kill_at is not None and now > hand.kill_at:
                with suppress(ProcessLookupError):
                    os.kill(hand.process.pid, signal.SIGKILL)
                hand.kill_at = None
            if hand.marked:
                self._mark(hand)  # again: Celery forgets it when it connects anew
            if hand.given:
                self._look_at(hand, now)

    def _look_at(self, hand: Hand, now: float) -> None:
        one, since = hand.at_work, hand.page.since
        if one is None:
            if now - max(hand.heard_at, since) > PATIENCE:
                self._take_back(hand)
                hand.silent = True
            return
        ran = now - since
        if ran > BEGUN_AFTER:
            self._tell_begun(hand, one)
            if len(hand.given) > 1:
                self._take_back(hand)
        self._mind_limits(hand, one, ran)
        if self._cold and hand.kill_at is None:
            self._stop_body(hand, one)

    def _stop_body(self, hand: Hand, one: Claimed) -> None:
        """Give its task back, uncounted, and end its process."""
        self._tell_begun(hand, one)
        self.boot.keeper.do(partial(losses.give_back_by_key, *one.key))
        if self._signal(hand, one, signal.SIGTERM):
            hand.kill_at = time.monotonic() + conf.CANCEL_GRACE

    def _take_back(self, hand: Hand) -> None:
        """Give to others what this child was given and has not begun."""
        if not hand.unbegun():
            return
        hand.page.taken_back = hand.number
        back = hand.unbegun()
        for one in back:
            del hand.given[one.number]
            hand.bytes -= one.bytes
        self.deck.put_back(back)
        self._unmark(hand)

    def _mind_limits(self, hand: Hand, one: Claimed, ran: float) -> None:
        timeout = one.card.timeout
        if ran > timeout and not one.warned:
            one.warned = True
            self._signal(hand, one, interrupts.TIMEOUT)
        if ran > timeout + conf.CANCEL_GRACE and not one.overdue:
            one.overdue = True
            self.boot.keeper.do(partial(self.boot.lookout.timed_out, *one.key))
            if self._signal(hand, one, signal.SIGTERM):
                hand.kill_at = time.monotonic() + LAST_WORDS

    def _bury(self, hand: Hand) -> None:
        """A child is dead: what had begun there is lost, the rest goes to others."""
        fd = hand.line.main_end.fileno()
        self._poll.unregister(fd)
        del self._hands[fd]
        prefork.processes.pop(hand.process.pid, None)
        unbegun = hand.unbegun()
        self.deck.put_back(unbegun)
        for one in hand.given.values():
            if one not in unbegun:
                one.answered = True
                ago = time.monotonic() - hand.page.since
                self.boot.keeper.do(_Loss(self, one, hand.process, ago))
        hand.given.clear()
        self._unmark(hand)
        hand.line.main_end.close()

    # The deck

    def _is_free(self, hand: Hand) -> bool:
        """Return whether Celery has given this child nothing."""
        if hand.line.closed or hand.page.halt or hand.silent:
            return False
        now = time.monotonic()
        if now < hand.rests_until or hand.lingers(now):
            return False
        marked = hand.process.inqW_fd in self._busy
        return not marked or hand.marked

    @property
    def _busy(self) -> set[int]:
        """The children that Celery gives nothing, by a number that it knows."""
        busy: set[int] = self.boot.consumer.pool._pool._busy_workers  # noqa: SLF001 - nothing else says so
        return busy

    def _mark(self, hand: Hand) -> None:
        """Keep Celery from giving a job to a child that is at something long."""
        hand.marked = True
        self._busy.add(hand.process.inqW_fd)

    def _unmark(self, hand: Hand) -> None:
        if hand.marked and not hand.given:
            hand.marked = False
            self._busy.discard(hand.process.inqW_fd)

    def _give(self) -> None:
        with self.deck.lock:
            if self.boot.leaving or not lines.lease.holds():
                return
            given: dict[int, list[Job]] = {}
            hands = [hand for hand in self._hands.values() if self._is_free(hand)]
            loads = {id(hand): hand.seconds for hand in hands}
            waiting = self.deck.waiting
            while waiting:
                one = waiting[0]
                hand = _best(hands, loads, one)
                if hand is None:
                    break
                waiting.popleft()
                loads[id(hand)] += one.seconds
                given.setdefault(id(hand), []).append(self._job(hand, one))
            for hand in hands:
                if id(hand) in given:
                    hand.heard_at = time.monotonic()
                    hand.line.give(given[id(hand)])

    def _job(self, hand: Hand, one: Claimed) -> Job:
        hand.number += 1
        one.number = hand.number
        hand.given[one.number] = one
        hand.bytes += one.bytes
        if not one.short:
            self._mark(hand)
        values = None if one.writes_itself else one.card.values
        return Job(one.number, *one.key, values)

    def _give_all_back(self) -> None:
        """This worker leaves: what has not begun is for others."""
        for hand in self._hands.values():
            self._take_back(hand)
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


class _Loss:
    """An errand of the keeper: a child died over an attempt."""

    def __init__(self, hands: Hands, one: Claimed, process: Any, ago: float) -> None:
        self.hands, self.one, self.process, self.ago = hands, one, process, ago
        self._until = time.monotonic() + 2.0
        self._begun = False

    def __call__(self) -> bool | None:
        code = self.process.exitcode
        if code is None and time.monotonic() < self._until:
            return False
        key, lookout = self.one.key, self.hands.boot.lookout
        if not self._begun:
            lifecycle.begin(
                *key, worker_id=here.worker_id, pid=self.process.pid, ago=self.ago
            )
            self._begun = True
        self.hands.deck.settle([key])
        status = human_status(code) if code is not None else "unknown"
        written: bool = lookout.process_lost(*key, f"Worker exited prematurely: {status}")
        return written


def _best(hands: Collection[Hand], loads: dict[int, float], one: Claimed) -> Hand | None:
    """Return the child with the least to do that may be given this."""
    if not one.short:
        return next((hand for hand in hands if not hand.given), None)
    fit = (
        hand
        for hand in hands
        if not hand.given
        or (
            loads[id(hand)] + one.seconds <= GIVEN
            and hand.bytes + one.bytes <= BYTES
            and all(other.short for other in hand.given.values())
        )
    )
    return min(fit, key=lambda hand: loads[id(hand)], default=None)


def _is_simple(card: Any, usual: float | None) -> bool:
    """Return whether the journal may write begin and end: no more is to be told or done."""
    options = card.options
    if isinstance(options, str):
        options = json.loads(options) if options != "{}" else {}
    return (
        is_short(usual)
        and not card.heard
        and card.expires_at is None
        and not options.get("atomic")
        # What came back once is claimed before its body begins, so that one which takes its
        # worker down with it is counted.
        and card.attempt == card.retry_count + 1
        and size_of(card) < BYTES // 4
    )


def _ran(one: Claimed, pid: int, answer: Answer) -> tuple[Any, ...]:
    return (*one.key, pid, answer.began, answer.ended, *answer.told)
