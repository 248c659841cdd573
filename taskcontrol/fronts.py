"""The first rows of the lanes that nothing holds shut, in the order of promotion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, starmap
from typing import Any, NamedTuple

from . import tasktypes
from .conf import conf
from .dialect import together
from .lanereads import Head, first_rows, heads_statement, read_heads
from .occupancy import Occupancy, reckon, statements
from .rates import UNLIMITED, Sends
from .slots import Slots


@dataclass
class Lane:
    """One line with work, and what its type and its queue say."""

    number: int
    method: str
    queue: str
    priority: int
    #: How many more of the type may be sent now, by its free places and by its rate.
    limit: int
    usual_seconds: float | None
    #: Whether its type says that no body begins again when it was lost.
    once: bool = False
    #: The rate of the type as it is written, and whether it leaves less than the places.
    rate: str = ""
    by_rate: bool = False
    #: The one row in it; None where there are more.
    only: Head | None = None


class Front(NamedTuple):
    """A ready row; sorts in the order of promotion."""

    behind: bool
    urgency: int
    position: int
    batch_order: int
    task_id: int
    lane: Lane

    @property
    def place(self) -> tuple[int, ...]:
        """Where it stands in the order."""
        return self[:5]


class Fronts(NamedTuple):
    """What was read."""

    #: In the order of promotion.
    rows: Sequence[Front] = ()
    #: The numbers of the lanes that may hold more than was read.
    cut: frozenset[int] = frozenset()


def look(*, at_lanes: bool) -> tuple[Occupancy, list[Head] | None]:
    """Read who holds places and, if wanted, the heads of the lanes: at one moment."""
    asked = [*statements(), *([heads_statement()] if at_lanes else [])]
    workers, held, *heads = together(conf.DATABASE, asked)
    return reckon(workers, held), list(starmap(Head, heads[0])) if heads else None


def waiting_lanes(
    heads: Sequence[Head] | None, occupancy: Occupancy, sends: Sends
) -> list[Lane]:
    """Return the lanes with work that no pause holds shut, each with its free places.

    ``heads`` as ``look`` has returned them; None: they are read.
    """
    if heads is None:
        heads = read_heads()
    unknown = {head.method for head in heads if head.kind is None}
    if unknown:
        tasktypes.ensure(unknown)
        heads = read_heads()
    # Without a type somebody is inserting that; a later pass knows it.
    known = [head for head in heads if head.kind is not None and not head.held]
    return [_lane(head, occupancy, sends) for head in known]


def _lane(head: Head, occupancy: Occupancy, sends: Sends) -> Lane:
    limit, method = head.concurrency_limit, head.method
    free = limit - occupancy.by_type[method] if limit else UNLIMITED
    more = sends.left(method, head.rate or "")
    return Lane(
        number=head.lane,
        method=method,
        queue=head.queue,
        priority=head.urgency,
        limit=min(free, more),
        usual_seconds=head.usual_seconds,
        once=bool(head.once),
        rate=head.rate or "",
        by_rate=more < free,
        only=None if head.more else head,
    )


def open_lanes(lanes: Iterable[Lane], slots: Slots) -> list[Lane]:
    """Return those of ``lanes`` of which a pass could take something now."""
    return [lane for lane in lanes if lane.limit > 0 and slots.room(lane.queue)]


def read_fronts(lanes: Sequence[Lane], slots: Slots, *, beyond: int = 0) -> Fronts:
    """Read the first rows of each lane: enough for the slots and for one page.

    Begins with a share of the page for every lane, and reads on where more rows of a lane
    may stand before the end of the page: so the cost follows the page and the lanes, also
    when the first rows all stand in a few of many lanes. One row more than the slots ask
    for tells whether something stays behind; ``beyond``: that many more. A lane of one row
    was read with its head.
    """
    page: int = conf.DISPATCH_PAGE
    most = {
        lane.number: min(lane.limit, slots.room(lane.queue), page) + 1 + beyond
        for lane in lanes
    }
    by_number = {lane.number: lane for lane in lanes}
    depth = 1 + 2 * page // max(len(lanes), 1)
    read = {lane.number: [_front(lane, *lane.only[1:5])] for lane in lanes if lane.only}
    asked: dict[int, int] = {}
    wanted = {
        number: min(count, depth) for number, count in most.items() if number not in read
    }
    rows = sorted(chain.from_iterable(read.values()), key=lambda front: front.place)
    while wanted:
        asked |= wanted
        read |= _read(wanted, by_number)
        rows = sorted(chain.from_iterable(read.values()), key=lambda front: front.place)
        last = rows[page - 1] if len(rows) >= page else None
        again = [
            number
            for number in wanted
            if len(read[number]) == asked[number] < most[number]
            and (last is None or read[number][-1].place < last.place)
        ]
        depth = max(8 * depth, 20 * page // max(len(again), 1))
        wanted = {number: min(most[number], depth) for number in again}
    if not read:
        return Fronts()
    cut = frozenset(number for number in asked if len(read[number]) == asked[number])
    return Fronts(rows, cut)


def _front(
    lane: Lane, task_id: int, at_front: Any, position: int, batch_order: int
) -> Front:
    return Front(not at_front, -lane.priority, position, batch_order, task_id, lane)


def _read(wanted: Mapping[int, int], lanes: Mapping[int, Lane]) -> dict[int, list[Front]]:
    found: dict[int, list[Front]] = {number: [] for number in wanted}
    for task_id, number, at_front, position, order in first_rows(wanted.items()):
        front = _front(lanes[number], task_id, at_front, position, order)
        found[number].append(front)
    for fronts in found.values():
        fronts.sort(key=lambda front: front.place)
    return found
