"""What holds waiting tasks back, as a pass sees it; what is over becomes a WaitInterval."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .models import WaitInterval

if TYPE_CHECKING:
    from .fronts import Fronts, Lane
    from .slots import Slots

Scope = WaitInterval.Scope

#: Microseconds. What was over sooner explains no wait, and would be written at each pass.
LEAST = 1_000_000


def named(scope: Scope, key: str = "") -> str:
    """Return the name of a closure as the dispatcher's row keeps it."""
    return f"{scope}:{key}"


def parts_of(name: str) -> tuple[str, str]:
    """Return scope and key of a closure."""
    scope, _, key = name.partition(":")
    return scope, key


#: Nothing can be sent.
BROKER = named(Scope.BROKER)
#: No slot of any worker is free for anything that waits.
POOL = named(Scope.POOL)
#: There is no worker at all.
WORKER = named(Scope.WORKER)


def while_full(slots: Slots, before: Collection[str]) -> set[str]:
    """Return what is closed while there is no slot at all, so that no lane was looked at."""
    if not slots.pools:
        return {WORKER}
    kept = (named(Scope.LIMIT), named(Scope.RATE), WORKER)
    return {POOL, *(name for name in before if name.startswith(kept) and name != WORKER)}


def after_choosing(
    lanes: Iterable[Lane], fronts: Fronts, chosen: Collection[int], slots: Slots
) -> set[str]:
    """Return what keeps the rest of the lanes waiting now that ``chosen`` were taken."""
    taken = set(chosen)
    places = Counter(one.lane.method for one in fronts.rows if one.task_id in taken)
    gone = _emptied(fronts, taken)
    full, unserved = set(), set()
    served: dict[str, bool] = {}
    for lane in lanes:
        if lane.number in gone:
            continue
        if lane.limit <= places[lane.method]:
            scope = Scope.RATE if lane.by_rate else Scope.LIMIT
            full.add(named(scope, lane.method))
        elif not slots.serves(lane.queue):
            unserved.add(named(Scope.WORKER, lane.queue))
        else:
            room = slots.has_room(lane.queue, lane.usual_seconds)
            served[lane.queue] = served.get(lane.queue, False) or room
    shut = {named(Scope.POOL, queue) for queue, room in served.items() if not room}
    if shut and len(shut) == len(served):
        # One name for it, whichever queues have work: else each change would be written.
        shut = {POOL}
    return full | unserved | shut


def _emptied(fronts: Fronts, taken: Collection[int]) -> set[int]:
    """Return the lanes that were read to their ends and of which every row was taken."""
    read = {one.lane.number for one in fronts.rows}
    left = {one.lane.number for one in fronts.rows if one.task_id not in taken}
    return read - left - fronts.cut


def since(before: Mapping[str, int], closed: Iterable[str], now: int) -> dict[str, int]:
    """Return what is closed, each with the microsecond at which a pass first saw it so."""
    return {name: before.get(name, now) for name in sorted(closed)}


def keep_what_is_over(
    before: Mapping[str, int], after: Mapping[str, int], now: int
) -> None:
    """Store what was closed for long enough to explain a wait, and is open again."""
    over: Sequence[tuple[str, int]] = [
        (name, began)
        for name, began in before.items()
        if name not in after and now - began >= LEAST
    ]
    if over:
        WaitInterval.objects.bulk_create(_interval(*one, now) for one in over)


def _interval(name: str, began: int, now: int) -> WaitInterval:
    scope, key = parts_of(name)
    return WaitInterval(
        scope=scope, key=key, from_at=moment_of(began), to_at=moment_of(now)
    )


def moment_of(microseconds: int) -> dt.datetime:
    """Return the time so many microseconds after 1970."""
    start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return start + dt.timedelta(microseconds=microseconds)
