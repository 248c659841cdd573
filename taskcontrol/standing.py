"""Counts how many tasks go before a waiting one, in the dispatcher's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .counting import Capped
from .lanereads import first_rows, read_heads
from .models import TaskLog
from .rates import Sends

#: A line may be a million long, so nobody counts beyond this.
MOST = 1000


@dataclass(frozen=True)
class Ahead:
    """How many tasks a pass would take before one of them."""

    #: Of the same method, queue and priority.
    same_type: int
    #: In other lanes of the same queue that nothing holds shut.
    same_queue: int


def ahead_of(
    task: TaskLog, usual_priority: int, by_type: Counter[str], sends: Sends
) -> Ahead:
    """Return what goes before ``task``, which stands in a lane; reads at most 2,000 rows.

    ``usual_priority`` is that of its type, ``by_type`` the places held by each type,
    ``sends`` what was sent lately.
    """
    own = task.ready_lane
    assert own is not None, "a task in no lane has no place in a line"  # noqa: S101
    urgency = _open_lanes(task, by_type, sends)
    share = MOST // max(len(urgency), 1) + 1
    wanted = {**dict.fromkeys(urgency, share), own: MOST + 1}
    urgency[own] = _chosen(task.priority, usual_priority)
    mine = _place(urgency[own], task.at_front, task.position, task.batch_order, task.pk)
    ahead: Counter[int] = Counter()
    for pk, lane, at_front, position, order in first_rows(wanted.items()):
        ahead[lane] += _place(urgency[lane], at_front, position, order, pk) < mine
    same = ahead.pop(own, 0)
    return Ahead(_sum([same], MOST + 1), _sum(ahead.values(), share))


def _sum(counts: Iterable[int], limit: int) -> int:
    """A lane that was read to its limit may hold more."""
    counts = list(counts)
    total = min(sum(counts), MOST)
    return Capped(total) if limit in counts or sum(counts) > MOST else total


def _open_lanes(task: TaskLog, by_type: Counter[str], sends: Sends) -> dict[int, int]:
    """Return the urgency of each other lane of the queue from which a pass would take."""
    lanes = {}
    for head in read_heads():
        limit, method = head.concurrency_limit, head.method
        full = (limit and by_type[method] >= limit) or not sends.left(
            method, head.rate or ""
        )
        others = head.queue == task.queue and head.lane != task.ready_lane
        if others and not head.held and not full:
            lanes[head.lane] = head.urgency
    return lanes


def _chosen(own: int | None, usual: int) -> int:
    return usual if own is None else own


def _place(
    urgency: int, at_front: Any, position: int, batch_order: int, pk: int
) -> tuple[Any, ...]:
    """Return what the dispatcher sorts by."""
    return (not at_front, -urgency, position, batch_order, pk)
