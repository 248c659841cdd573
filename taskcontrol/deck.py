"""What a worker has promoted for its own children: claimed for them, and not yet ended."""

from __future__ import annotations

import json
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from itertools import count
from operator import attrgetter
from typing import Any, NamedTuple

from .models import OnLost
from .slots import LEAST_BY_HAND, Slots, cost_by_hand, is_short

Key = tuple[int, int]
#: Bytes that a child is given at once.
BYTES = 256_000
#: How much the newest run counts in the mean of its type.
WEIGHT = 0.05


class Taken(NamedTuple):
    """What a pass knows of the type of a task that it gives to its own worker."""

    #: Seconds that a run takes at most, as a rule; None where nobody knows.
    usual: float | None
    #: Whether no body of it begins again when it was lost.
    once: bool = False


class Claimed:
    """One attempt that this worker has claimed as it was sent."""

    def __init__(
        self,
        card: Any,
        taken: Taken,
        *,
        writes_itself: bool = False,
        takes: float | None = None,
    ) -> None:
        self.card = card
        self.key: Key = (card.pk, card.attempt)
        #: About how much the line has to carry of it.
        self.bytes = 100 if writes_itself else 500 + size_of(card)
        #: Whether it shares a child with others that wait behind it there.
        self.short = is_short(taken.usual)
        self.seconds = cost_by_hand(taken.usual if takes is None else takes)
        #: Whether its child claims it and writes its end; else the journal does both.
        self.writes_itself = writes_itself
        #: Its number on the line of the child that it was given to; 0 while it waits here.
        self.number = 0
        #: Its place in the order in which all were put on the deck.
        self.order = 0
        self.waits_since = time.monotonic()
        #: Whether its begin was written, or is about to be.
        self.told_begun = writes_itself
        #: Whether its child has answered: what is left is to write it down.
        self.answered = False
        #: Whether its body runs for longer than what is short does.
        self.lingers = False
        #: Whether its body has come to an end.
        self.over = False
        #: Whether its body was told that its time is over, and made to go.
        self.warned = self.overdue = False

    @property
    def keeps_its_child(self) -> bool:
        """Whether Celery's jobs are for others as long as a child has it."""
        return self.lingers or not self.short


def size_of(card: Any) -> int:
    """Return about how many bytes the arguments of a row are."""
    given = card.arguments
    if not isinstance(given, str):
        return len(json.dumps(given))
    return len(given) if given.isascii() else len(given.encode(errors="surrogatepass"))


def is_simple(card: Any, taken: Taken) -> bool:
    """Return whether the journal may write begin and end: no more is to be told or done."""
    options = card.options
    if isinstance(options, str):
        options = json.loads(options) if options != "{}" else {}
    return (
        is_short(taken.usual)
        and not card.heard
        and card.expires_at is None
        and not options.get("atomic")
        # What came back once, and what must not begin twice, is claimed before its body
        # begins: one that takes its worker down with it at once is counted.
        and card.attempt == card.retry_count + 1
        and not _begins_once(options, taken)
        and size_of(card) < BYTES // 4
    )


def _begins_once(options: Mapping[str, Any], taken: Taken) -> bool:
    own = options.get("on_lost")
    return own == OnLost.FAIL if own else taken.once


class Offer:
    """How much of a pass this worker takes for its own children, and what it has taken."""

    def __init__(
        self,
        worker_id: int,
        queues: Collection[str],
        places: int,
        seconds: float,
        each: Mapping[str, float] | None = None,
    ) -> None:
        self.worker_id, self.queues = worker_id, queues
        #: Children that have nothing to do, and seconds of short work that may wait for one.
        self._places, self._seconds = places, seconds
        #: What a run of each type takes here in the mean.
        self._each = each or {}
        #: What it has taken, by the keys of the tasks.
        self.taken: dict[int, Taken] = {}

    def room(self, queue: str) -> int:
        """Return the most tasks of ``queue`` that it could take now."""
        if queue not in self.queues:
            return 0
        return max(self._places, 0) + int(max(self._seconds, 0.0) / LEAST_BY_HAND)

    def has_room(self, queue: str, usual_seconds: float | None) -> bool:
        """Return whether it could take one more."""
        ahead = is_short(usual_seconds) and self._seconds >= LEAST_BY_HAND
        return queue in self.queues and (self._places > 0 or ahead)

    def take(
        self,
        slots: Slots,
        task_id: int,
        queue: str,
        method: str,
        usual: float | None,
        *,
        once: bool = False,
    ) -> bool:
        """Take a task if there is room for it: in a slot, or ahead of one if it is short."""
        if not self.has_room(queue, usual):
            return False
        if self._places > 0 and slots.take_free(queue):
            self._places -= 1
        elif is_short(usual) and self._seconds >= LEAST_BY_HAND:
            self._seconds -= cost_by_hand(self._each.get(method, usual))
            slots.ahead = True
        else:
            return False
        self.taken[task_id] = Taken(usual, once)
        return True


class Deck:
    """The claimed attempts of one worker, in order; its lock is for whoever changes them."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        #: Everything that is not yet settled.
        self.all: dict[Key, Claimed] = {}
        #: What no child was given.
        self.waiting: deque[Claimed] = deque()
        self._order = count(1)
        self._settled = threading.Event()
        #: What a run of each type takes here in the mean, and how many were counted.
        self.each: dict[str, float] = {}

    def put(self, claimed: Iterable[Claimed]) -> None:
        """Add what was promoted just now, behind the rest."""
        with self.lock:
            for one in claimed:
                one.order = next(self._order)
                self.all[one.key] = one
                self.waiting.append(one)

    def put_back(self, claimed: Collection[Claimed]) -> None:
        """Let what a child was given and did not begin wait again, where it stood.

        Each by itself: a child's answers come one by one, and an urgent one would wait
        behind the rest. Not what was forgotten meanwhile: others have it by now.
        """
        with self.lock:
            for one in claimed:
                if self.all.get(one.key) is one:
                    one.number, one.waits_since = 0, time.monotonic()
                    one.lingers = False
                    insort(self.waiting, one, key=attrgetter("order"))

    def drop(self, key: Key) -> bool:
        """Forget an attempt that waits here; False if a child has it, or it is being given back."""
        with self.lock:
            one = self.all.get(key)
            if one is None or one not in self.waiting:
                return False
            del self.all[key]
            self.waiting.remove(one)
            return True

    def settle(self, keys: Iterable[Key]) -> None:
        """Forget what is written down."""
        with self.lock:
            for key in keys:
                self.all.pop(key, None)
            self._settled.set()

    def take_waiting(self) -> list[Key]:
        """Take everything that no child was given; it stays known until it is settled."""
        with self.lock:
            keys = [one.key for one in self.waiting]
            self.waiting.clear()
            return keys

    def unwritten(self) -> list[Key]:
        """Return the attempts whose bodies are over, and whose ends are yet to be written."""
        return [one.key for one in list(self.all.values()) if one.over]

    def learn(self, method: str, seconds: float) -> None:
        """Take the length of a run into account."""
        known = self.each.get(method, seconds)
        self.each[method] = known + WEIGHT * (seconds - known)

    def seconds(self) -> float:
        """Return how much short work is here and not yet over."""
        return sum(one.seconds for one in list(self.all.values()) if not one.answered)

    def note_answer(self, one: Claimed, *, over: bool = False) -> None:
        """A child has done with an attempt: what is left is to write that down.

        ``over``: its body had begun, and has come to an end.
        """
        one.answered, one.over = True, over
        self._settled.set()

    def _open(self) -> int:
        return sum(not one.answered for one in list(self.all.values()))

    def wait_until_low(self, timeout: float) -> None:
        """Wait until half of what is here is done, or for so long."""
        until, enough = time.monotonic() + timeout, self._open() // 2
        while self._open() > enough and (left := until - time.monotonic()) > 0:
            self._settled.clear()
            self._settled.wait(left)
