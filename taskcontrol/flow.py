"""What flows through each queue: how much waits, how long, what came and went, who serves.

Costs the same with millions of waiting tasks: everything is read from the ends of indexes,
and counted no further than a page needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from . import dialect
from .conf import conf, known_queues, most_queued
from .counting import MOST_COUNTED, Capped
from .dialect import DatabaseNow
from .lanereads import read_heads
from .models import TaskLog, seconds
from .monitoring import WorkerNumbers, held_places, list_workers
from .status import Status

#: Seconds over which what came and what went is counted.
WINDOW = 60
#: Workers in these states take tasks.
SERVING = frozenset({"live", "not consuming"})


@dataclass
class Flow:
    """One queue at one moment."""

    name: str
    #: The most that may wait and be sent; None = any number.
    limit: int | None = None
    #: Pending, also those that are to run later.
    waiting: int = 0
    #: Promoted and not begun: sent, or claimed by a worker for its own children.
    sent: int = 0
    running: int = 0
    #: Canceled or given up, but the body is not gone.
    stopping: int = 0
    #: Of those ready, the first of its lane that waits longest.
    oldest_task: int | None = None
    oldest_seconds: float | None = None
    #: Enqueued and ended within the last minute.
    came: int = 0
    went: int = 0
    workers: list[WorkerNumbers] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Tasks in the line: waiting and sent."""
        both = int(self.waiting) + self.sent
        return Capped(both) if isinstance(self.waiting, Capped) else both

    @property
    def slots(self) -> int:
        """Bodies that its workers can run at once; other queues may use them too."""
        return sum(worker.slots for worker in self.workers)

    @property
    def unserved(self) -> bool:
        """Whether tasks could run, but no worker takes them."""
        return not self.workers and (self.oldest_task is not None or self.sent > 0)

    @property
    def full(self) -> bool:
        """Whether ``max_queued_jobs`` is reached, so that enqueue refuses more."""
        return self.limit is not None and self.depth >= self.limit


def flows(names: Iterable[str] | None = None) -> dict[str, Flow]:
    """Return how the queues of these names stand; None = all that are known or have work."""
    if names is not None and not (names := list(names)):
        return {}
    micros = dialect.microseconds_now(conf.DATABASE)
    now = datetime.fromtimestamp(micros / 1e6, UTC)
    held, firsts = held_places(), _firsts()
    workers = [one for one in list_workers(now, held) if one.state in SERVING]
    if names is None:
        working = {row.queue for row in firsts} | {group["queue"] for group in held}
        served = {name for one in workers for name in one.queues}
        names = working | served | known_queues().keys()
    found = {name: Flow(name, most_queued(name)) for name in sorted(names)}
    _add_held(found, held)
    _add_oldest(found, firsts, now)
    _add_counts(found, micros - WINDOW * 1_000_000)
    for flow in found.values():
        flow.workers = [one for one in workers if flow.name in one.queues]
    return found


def _firsts() -> list[TaskLog]:
    """Return the first ready task of each lane."""
    rows = TaskLog.objects.filter(pk__in=[head.task_id for head in read_heads()])
    return list(rows.order_by().only("queue", "created_at", "run_at"))


def _add_held(found: dict[str, Flow], held: list[dict[str, Any]]) -> None:
    for group in held:
        flow = found.get(group["queue"])
        if flow is None:
            continue
        if group["status"] == Status.QUEUED:
            flow.sent += group["n"]
        elif group["status"] == Status.STARTED:
            flow.running += group["n"]
        else:
            flow.stopping += group["n"]


def _add_oldest(found: dict[str, Flow], firsts: list[TaskLog], now: datetime) -> None:
    for first in firsts:
        flow = found.get(first.queue)
        since = max(filter(None, (first.created_at, first.run_at)))
        waits = (now - since).total_seconds()
        if flow and (flow.oldest_seconds is None or waits > flow.oldest_seconds):
            flow.oldest_task, flow.oldest_seconds = first.pk, max(waits, 0.0)


def _add_counts(found: dict[str, Flow], since: int) -> None:
    """Count what waits, what came since and what went: two statements for all queues.

    What came has either not ended, or has ended since: each is the end of an index.
    """
    went, came_and_went, more = _ended(since)
    asked = []
    for flow in found.values():
        most = max(MOST_COUNTED, flow.limit or 0)
        pending = TaskLog.objects.filter(status=Status.PENDING)
        recent = TaskLog.objects.unended().filter(queue=flow.name, position__gt=since)
        asked += [
            dialect.by_index(pending, "queue", flow.name).values("pk")[: most + 1],
            recent.order_by("position").values("pk")[: most + 1],
        ]
    counts = dialect.counts(conf.DATABASE, asked)
    for flow, waiting, new in zip(found.values(), counts[::2], counts[1::2], strict=True):
        most = max(MOST_COUNTED, flow.limit or 0)
        came = new + came_and_went[flow.name]
        flow.waiting = _capped(waiting, most)
        flow.came = Capped(came) if more else _capped(came, most)
        flow.went = Capped(went[flow.name]) if more else went[flow.name]


def _capped(number: int, most: int) -> int:
    return Capped(most) if number > most else number


def _ended(since: int) -> tuple[Counter[str], Counter[str], bool]:
    """Return by queue what ended in the window, how much of it came there, and if more did."""
    rows = TaskLog.objects.filter(ended_at__gt=DatabaseNow() - seconds(WINDOW))
    newest = rows.order_by("-ended_at").values_list("queue", "position")
    ended = list(newest[: MOST_COUNTED + 1])
    new = Counter(queue for queue, position in ended if position > since)
    return Counter(queue for queue, _ in ended), new, len(ended) > MOST_COUNTED
