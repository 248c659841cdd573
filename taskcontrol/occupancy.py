"""Counts from the rows who holds which place; never from a counter, which would leak."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import starmap
from typing import Any, NamedTuple

from django.db.models import Count, OuterRef, Subquery, TextField
from django.db.models.functions import Cast

from .conf import conf
from .dialect import DatabaseNow, together
from .models import TaskLog, TaskType, Worker, seconds
from .prepared import PreparedQuery
from .slots import LOOKAHEAD, Pool, Slots, cost_by_hand, is_short
from .status import Status

Rows = Iterable[tuple[Any, ...]]

#: Seconds after its timeout that a task which runs at once has for writing its end.
AT_ONCE_GRACE = 60.0


class Held(NamedTuple):
    """Tasks of one type and queue that hold places in one worker, or are on their way."""

    status: str
    worker: int | None
    queue: str
    method: str
    usual: float | None
    number: int


def live_workers() -> Any:
    """Return the workers that give signs of life and take new work."""
    return Worker.objects.filter(
        left_at=None,
        lost_at=None,
        leaving_at=None,
        last_seen_at__gt=DatabaseNow() - seconds(conf.WORKER_LOST_AFTER),
    )


@dataclass
class Occupancy:
    """Who holds places: by type for the limits, and what is left of the slots."""

    slots: Slots
    by_type: Counter[str]


def read_occupancy() -> Occupancy:
    """Read both from the rows that occupy a place."""
    return reckon(*together(conf.DATABASE, statements()))


def statements() -> list[tuple[str, Any]]:
    """Return the SELECTs from whose rows ``reckon`` knows both."""
    return [_WORKERS.sql(conf.DATABASE, conf.WORKER_LOST_AFTER), _HELD.sql(conf.DATABASE)]


def reckon(workers: Rows, held: Rows) -> Occupancy:
    """Return who holds places, from the rows of ``statements``."""
    pools, home = _pools(workers)
    slots = Slots(pools)
    by_type: Counter[str] = Counter()
    sent = []
    for group in starmap(Held, held):
        by_type[group.method] += group.number
        if group.status == Status.QUEUED and group.worker is None:
            sent.append(group)
        elif group.status == Status.QUEUED:
            if group.worker in home:
                _hold_claimed(home[group.worker], group)
        elif group.worker in home:
            _hold(home[group.worker], group)
    for group in sent:
        for _ in range(group.number):
            # What finds no slot waits in the broker already: it uses up the lookahead.
            slots.take(group.queue, group.usual)
    return Occupancy(slots, by_type)


def _hold(pool: Pool, group: Held) -> None:
    """Take the slots of running bodies, and nothing is sent to wait behind a long one."""
    pool.busy += group.number
    if not is_short(group.usual):
        pool.lookahead = max(pool.lookahead - group.number * LOOKAHEAD, 0)


def claimed_of(rows: Any) -> Counter[int]:
    """Return how many of ``rows`` each worker has claimed for its own children.

    No begin of theirs is written: they wait for a child, or their bodies have just begun.
    """
    claimed = rows.filter(occupies=True, status=Status.QUEUED, worker__isnull=False)
    groups = claimed.order_by().values_list("worker").annotate(n=Count("pk"))
    return Counter(dict(groups))


def _hold_claimed(pool: Pool, group: Held) -> None:
    """What a worker has claimed for its own children takes its slots, then its lookahead."""
    at_once = min(group.number, max(pool.free, 0))
    pool.busy += at_once
    cost = cost_by_hand(group.usual)
    pool.lookahead = max(pool.lookahead - (group.number - at_once) * cost, 0)


def _pools(workers: Rows) -> tuple[list[Pool], dict[int, Pool]]:
    pools: dict[frozenset[str], Pool] = {}
    home: dict[int, Pool] = {}
    for pk, names, size, prefetch_off in workers:
        queues = frozenset(json.loads(names))
        pool = home[pk] = pools.setdefault(queues, Pool(queues))
        pool.size += size
        pool.workers.add(pk)
        if prefetch_off:
            pool.lookahead += size * LOOKAHEAD
    return list(pools.values()), home


def _build_held() -> Any:
    usual = TaskType.objects.filter(method=OuterRef("method")).values("usual_seconds")[:1]
    rows = TaskLog.objects.filter(occupies=True).order_by().annotate(usual=Subquery(usual))
    by = rows.values_list("status", "worker", "queue", "method", "usual")
    return by.annotate(n=Count("pk"))


_HELD = PreparedQuery(_build_held)
_WORKERS = PreparedQuery(
    lambda: (
        live_workers()
        .order_by()
        .annotate(names=Cast("queues", TextField()))
        .values_list("pk", "names", "pool_size", "prefetch_off")
    )
)


def idle_queues() -> set[str]:
    """Return the queues for which a live worker has a slot that no body holds."""
    workers, held = together(conf.DATABASE, statements())
    pools, home = _pools(workers)
    for group in starmap(Held, held):
        if group.worker in home:
            home[group.worker].busy += group.number
    return {queue for pool in pools if pool.busy < pool.size for queue in pool.queues}
