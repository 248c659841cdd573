"""Counts from the rows who holds which place; never from a counter, which would leak."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, OuterRef, Subquery

from .conf import conf
from .dialect import DatabaseNow
from .models import TaskLog, TaskType, Worker, seconds
from .slots import LOOKAHEAD, Pool, Slots
from .status import Status


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
    """Read both in two statements, from the rows that occupy a place."""
    pools, home = _read_pools()
    slots = Slots(pools)
    by_type: Counter[str] = Counter()
    sent = []
    for group in _held_places():
        by_type[group["method"]] += group["n"]
        if group["status"] == Status.QUEUED:
            sent.append(group)
        elif group["worker"] in home:
            home[group["worker"]].busy += group["n"]
    for group in sent:
        for _ in range(group["n"]):
            # What finds no slot waits in the broker already: it uses up the lookahead.
            slots.take(group["queue"], group["usual"])
    return Occupancy(slots, by_type)


def _read_pools() -> tuple[list[Pool], dict[int, Pool]]:
    pools: dict[frozenset[str], Pool] = {}
    home: dict[int, Pool] = {}
    for worker in live_workers().only("queues", "pool_size", "prefetch_off"):
        queues = frozenset(worker.queues)
        pool = home[worker.pk] = pools.setdefault(queues, Pool(queues))
        pool.size += worker.pool_size
        if worker.prefetch_off:
            pool.lookahead += worker.pool_size * LOOKAHEAD
    return list(pools.values()), home


def _held_places() -> Any:
    usual = TaskType.objects.filter(method=OuterRef("method")).values("usual_seconds")[:1]
    rows = TaskLog.objects.filter(occupies=True).order_by()
    groups = rows.annotate(usual=Subquery(usual)).values(
        "status", "worker", "queue", "method", "usual"
    )
    return groups.annotate(n=Count("pk"))


def idle_queues() -> set[str]:
    """Return the queues for which a live worker has a slot that no body holds."""
    pools, home = _read_pools()
    for group in _held_places():
        if group["status"] != Status.QUEUED and group["worker"] in home:
            home[group["worker"]].busy += group["n"]
    return {queue for pool in pools if pool.busy < pool.size for queue in pool.queues}
