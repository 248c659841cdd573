"""The first rows of the lanes that nothing holds shut, in the order of promotion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from . import tasktypes
from .conf import conf
from .dialect import lane_fronts, lane_heads
from .models import QueueState, TaskLog, TaskType
from .occupancy import Occupancy
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


def _heads() -> list[tuple[Any, ...]]:
    return lane_heads(
        conf.DATABASE,
        TaskLog._meta.db_table,
        TaskType._meta.db_table,
        QueueState._meta.db_table,
    )


def waiting_lanes(occupancy: Occupancy, sends: Sends) -> list[Lane]:
    """Return the lanes with work that no pause holds shut, each with its free places."""
    heads = _heads()
    unknown = {method for _, method, _, _, kind, *_ in heads if kind is None}
    if unknown:
        tasktypes.ensure(unknown)
        heads = _heads()
    lanes = []
    for number, method, queue, own, kind, priority, limit, usual, held, rate, once in heads:
        if kind is None:
            continue  # somebody is inserting its type; a later pass knows it
        free = limit - occupancy.by_type[method] if limit else UNLIMITED
        if not held:
            urgency = priority if own is None else own
            more = sends.left(method, rate)
            lane = Lane(number, method, queue, urgency, min(free, more), usual, bool(once))
            lane.rate, lane.by_rate = rate, more < free
            lanes.append(lane)
    return lanes


def open_lanes(lanes: Iterable[Lane], slots: Slots) -> list[Lane]:
    """Return those of ``lanes`` of which a pass could take something now."""
    return [lane for lane in lanes if lane.limit > 0 and slots.room(lane.queue)]


def read_fronts(lanes: Sequence[Lane], slots: Slots, *, beyond: int = 0) -> Fronts:
    """Read the first rows of each lane: enough for the slots and for one page.

    Begins with a share of the page for every lane, and reads on where more rows of a lane
    may stand before the end of the page: so the cost follows the page and the lanes, also
    when the first rows all stand in a few of many lanes. One row more than the slots ask
    for tells whether something stays behind; ``beyond``: that many more.
    """
    page: int = conf.DISPATCH_PAGE
    most = {
        lane.number: min(lane.limit, slots.room(lane.queue), page) + 1 + beyond
        for lane in lanes
    }
    by_number = {lane.number: lane for lane in lanes}
    depth = 1 + 2 * page // max(len(lanes), 1)
    read: dict[int, list[Front]] = {}
    asked: dict[int, int] = {}
    wanted = {number: min(count, depth) for number, count in most.items()}
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


def _read(wanted: Mapping[int, int], lanes: Mapping[int, Lane]) -> dict[int, list[Front]]:
    found: dict[int, list[Front]] = {number: [] for number in wanted}
    rows = lane_fronts(conf.DATABASE, TaskLog._meta.db_table, wanted.items())
    for task_id, number, at_front, position, order in rows:
        lane = lanes[number]
        found[number].append(
            Front(not at_front, -lane.priority, position, order, task_id, lane)
        )
    for fronts in found.values():
        fronts.sort(key=lambda front: front.place)
    return found
