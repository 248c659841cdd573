"""Gives free slots to waiting tasks in their order: what a pass promotes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from .conf import conf
from .fronts import Front, Fronts
from .slots import Slots


def choose(fronts: Fronts, slots: Slots, *, broker_away: bool) -> tuple[list[int], bool]:
    """Give the slots to the rows in order; a full type or queue never holds up another.

    Stops when a lane that was read only in part is used up, since a row that was not read
    might come before all that are left; returns the chosen and whether it stopped so. A
    queue whose first row finds no slot is closed: what is short and might be sent ahead of
    a slot would overtake it, again and again. What the worker's own children have room for
    goes there, and nothing goes elsewhere while ``broker_away``.
    """
    chosen: list[int] = []
    left = Counter(front.lane.number for front in fronts.rows)
    places: dict[str, int] = {}
    closed: set[str] = set()
    for front in fronts.rows:
        lane = front.lane
        free = places.setdefault(lane.method, lane.limit)
        left[lane.number] -= 1
        if lane.queue in closed or free <= 0:
            continue
        if not _take(front, slots, broker_away=broker_away):
            closed.add(lane.queue)
            continue
        places[lane.method] = free - 1
        chosen.append(front.task_id)
        if len(chosen) == conf.DISPATCH_PAGE:
            return chosen, slots.any_left()
        ran_out = free > 1 and not left[lane.number] and lane.number in fronts.cut
        if ran_out and slots.has_room(lane.queue, lane.usual_seconds):
            return chosen, True
    return chosen, False


def _take(front: Front, slots: Slots, *, broker_away: bool) -> bool:
    lane, offer = front.lane, slots.aside
    queue, usual = lane.queue, lane.usual_seconds
    if offer is not None:
        if offer.take(slots, front.task_id, queue, lane.method, usual, once=lane.once):
            return True
        if not slots.served_by_others(queue, offer.worker_id):
            return False  # it would wait in the broker for the same children
    return not broker_away and slots.take(queue, usual)


def rated(fronts: Fronts, chosen: Collection[int]) -> Counter[tuple[str, str]]:
    """Count the chosen of each type with a rate."""
    lanes = (one.lane for one in fronts.rows if one.task_id in chosen)
    return Counter((lane.method, lane.rate) for lane in lanes if lane.rate)
