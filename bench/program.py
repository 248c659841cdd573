"""The workloads by name: who takes part, how many tasks, and what the page says of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.bulk import bulk, bulk_on_mariadb, bulk_on_sqlite
from bench.embedded import sqlite
from bench.grown import SIZES, grown
from bench.limits import limits
from bench.peers import OURS
from bench.workloads import Figures, drain, enqueue, idle, latency, many, memory

#: Fewest tasks of a run, whatever the scale.
FEWEST = 20


class Workload(NamedTuple):
    """One workload: ``measure(stage, who, number)`` runs it once."""

    measure: Callable[..., Figures]
    number: float
    words: str
    #: Who takes part, the base of the ratios first; empty: every contender.
    who: tuple[str, ...] = ()
    #: Whether the number is a scale of its own and not one of tasks.
    is_scale: bool = False
    fewest: int = FEWEST

    def size(self, scale: float, share: float = 1.0) -> Any:
        """Return the number for a run of this scale."""
        if self.is_scale:
            return self.number * scale
        return max(self.fewest, int(self.number * scale * share))


WORKLOADS = {
    "drain": Workload(
        drain,
        3000,
        "No-ops are enqueued first; then two children (or what comes nearest) empty the queue. "
        "What is measured begins when a tenth has run.",
    ),
    "short": Workload(
        drain, 30_000, "The same with ten times as many: what is short may share a message."
    ),
    "latency": Workload(
        latency,
        140,
        "An idle worker gets a task every 50 ms: from the call of enqueue to the start of the "
        "body.",
    ),
    "enqueue": Workload(
        enqueue,
        3000,
        "One call after the other, nothing consuming; CPU of caller and servers.",
    ),
    "many": Workload(
        many,
        20_000,
        "Many at once in the quickest way that each offers (plain Celery: one group); who has "
        "none calls one by one.",
    ),
    "idle": Workload(
        idle,
        20,
        "Worker, beat where there is one, Redis and PostgreSQL with nothing to do.",
        fewest=2,
    ),
    "memory": Workload(
        memory,
        100_000,
        "Resident memory after many no-ops; *grown* counts from the first tenth on.",
    ),
    "bulk": Workload(
        bulk,
        100_000,
        "`bulk_enqueue` from a generator on PostgreSQL, beside COPY of ready-made lines into the "
        "same table with its indexes, and beside Django's `bulk_create`.",
        ("copy", "bulk_create", OURS),
    ),
    "bulk-sqlite": Workload(
        bulk_on_sqlite, 100_000, "The same on SQLite.", ("bulk_create", OURS)
    ),
    "bulk-mariadb": Workload(
        bulk_on_mariadb, 100_000, "The same on MariaDB.", ("bulk_create", OURS)
    ),
    "grown": Workload(
        grown,
        1.0,
        "A ledger with so many ended tasks, and a tenth as many that wait behind the limit of "
        "their type, at the head of the queue. No-ops of another type are drained past them. "
        "Ten million of them take about 15 GB of disk.",
        tuple(SIZES),
        is_scale=True,
    ),
    "sqlite": Workload(
        sqlite,
        100_000,
        "The database of a fresh clone: four processes enqueue half of the tasks, and the rest "
        "while four children run them.",
        (OURS,),
    ),
    "limits": Workload(
        limits,
        20_000,
        "Four workers of two children, tasks of 3 ms of 1,000 types; *limited*: 50 of the types "
        "may run twice at the same time.",
        ("free", "limited"),
    ),
}
#: Workloads in which contenders take part, and so get a ``Peer`` instead of a name.
FOR_PEERS = {name for name, one in WORKLOADS.items() if not one.who}
