"""The free slots of the live workers, given out to queues that these workers consume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .deck import Offer

#: Seconds of short work that may wait in the broker for each slot.
LOOKAHEAD = 0.1
#: A run that usually takes longer than this never waits in the broker.
SHORT = 0.1
#: Seconds that even the shortest run is counted with: sent by message, or by hand.
LEAST, LEAST_BY_HAND = 0.002, 0.0003


def is_short(usual_seconds: float | None) -> bool:
    """Return whether a run usually ends soon; what never ended yet might be of any length."""
    return usual_seconds is not None and usual_seconds <= SHORT


def cost_by_hand(seconds: float | None) -> float:
    """Return the seconds of lookahead that a run takes up where no message is sent."""
    return max(LOOKAHEAD if seconds is None else seconds, LEAST_BY_HAND)


def slots_taken(bodies: int, claimed: int, size: int) -> int:
    """Return how many of ``size`` slots are taken.

    What a worker has claimed for its children takes those that no body has; more of it waits
    for the same slots.
    """
    return bodies + min(claimed, max(size - bodies, 0))


@dataclass
class Pool:
    """Workers that consume the same queues, seen as one."""

    queues: frozenset[str]
    size: int = 0
    #: The keys of these workers.
    workers: set[int] = field(default_factory=set)
    #: Slots that bodies hold, whatever their queue.
    busy: int = 0
    #: Seconds of short work that may be sent ahead of a free slot; 0 where messages would
    #: be held by a process and lose their order.
    lookahead: float = 0.0
    #: Slots promised to sent tasks, by queue.
    promised: dict[str, int] = field(default_factory=dict)

    @property
    def free(self) -> int:
        """Slots that nobody holds or was promised."""
        return self.size - self.busy - sum(self.promised.values())


class Slots:
    """Knows whether one more task of a queue would find a slot.

    A queue may be served by several pools and a pool serves several queues, so a promise is
    moved to another pool when that makes room: no slot stays empty by a wrong guess.
    """

    def __init__(self, pools: Iterable[Pool]) -> None:
        self.pools = list(pools)
        #: Whether some task was sent ahead of a free slot.
        self.ahead = False
        #: How much short work the worker that makes the pass takes ahead for its own children.
        self.aside: Offer | None = None

    def serves(self, queue: str) -> bool:
        """Return whether any live worker consumes ``queue``."""
        return any(queue in pool.queues for pool in self.pools)

    def served_by_others(self, queue: str, worker_id: int) -> bool:
        """Return whether any other live worker than this one consumes ``queue``."""
        return any(
            pool.workers - {worker_id} for pool in self.pools if queue in pool.queues
        )

    def any_left(self) -> bool:
        """Return whether any task at all could still be sent.

        What many held slots leave of the lookahead is seldom exactly 0; taken for room, it
        would let every pass read all lanes while each slot is taken.
        """
        if any(pool.free > 0 or pool.lookahead >= LEAST for pool in self.pools):
            return True
        queues = {queue for pool in self.pools for queue in pool.queues}
        return self.aside is not None and any(map(self.aside.room, queues))

    def room(self, queue: str) -> int:
        """Return the most tasks of ``queue`` that could be sent now: an upper bound."""
        reachable = self._reachable(queue)
        ahead = sum(
            int(pool.lookahead / LEAST) for pool in self.pools if queue in pool.queues
        )
        aside = self.aside.room(queue) if self.aside is not None else 0
        return sum(max(pool.free, 0) for pool in reachable) + ahead + aside

    def has_room(self, queue: str, usual_seconds: float | None) -> bool:
        """Return whether ``take`` would succeed."""
        if any(pool.free > 0 for pool in self._reachable(queue)):
            return True
        if self.aside is not None and self.aside.has_room(queue, usual_seconds):
            return True
        return self._ahead(queue, usual_seconds) is not None

    def take(self, queue: str, usual_seconds: float | None) -> bool:
        """Promise a slot to a task of ``queue``; False when it has to wait in the database."""
        return self.take_free(queue) or self._send_ahead(queue, usual_seconds)

    def take_free(self, queue: str) -> bool:
        """Promise a slot that is free now."""
        return self._promise(queue, set())

    def _promise(self, queue: str, tried: set[int]) -> bool:
        for number, pool in enumerate(self.pools):
            if queue not in pool.queues or number in tried:
                continue
            tried.add(number)
            if pool.free > 0 or self._make_room(pool, tried):
                pool.promised[queue] = pool.promised.get(queue, 0) + 1
                return True
        return False

    def _make_room(self, pool: Pool, tried: set[int]) -> bool:
        """Move one promise of ``pool`` to another pool that serves the same queue."""
        for other, count in list(pool.promised.items()):
            if count and self._promise(other, tried):
                pool.promised[other] -= 1
                return pool.free > 0
        return False

    def _send_ahead(self, queue: str, usual_seconds: float | None) -> bool:
        pool = self._ahead(queue, usual_seconds)
        if pool is None or usual_seconds is None:
            return False
        pool.lookahead -= max(usual_seconds, LEAST)
        self.ahead = True
        return True

    def _ahead(self, queue: str, usual_seconds: float | None) -> Pool | None:
        """Return a pool in whose lookahead a run that takes so long would fit."""
        if usual_seconds is None or not is_short(usual_seconds):
            return None
        cost = max(usual_seconds, LEAST)
        fits = (
            pool for pool in self.pools if queue in pool.queues and pool.lookahead >= cost
        )
        return next(fits, None)

    def _reachable(self, queue: str) -> list[Pool]:
        """Return the pools whose free slots a task of ``queue`` could use by moving promises."""
        queues, pools = {queue}, []
        left = list(self.pools)
        found = True
        while found:
            found = False
            for pool in list(left):
                if pool.queues & queues:
                    left.remove(pool)
                    pools.append(pool)
                    queues |= {name for name, count in pool.promised.items() if count}
                    found = True
        return pools
