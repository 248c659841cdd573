"""The lines in which tasks wait: one for each queue, type and priority in use."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from django.db.models import BigIntegerField, Case, F, Q, When

from .dialect import DatabaseNow


def lane_of(queue: str, method: str, priority: int | None) -> int:
    """Return the number of the lane; equal tasks share it, on every machine.

    A number, since the dispatcher jumps from lane to lane in an index, and one integer
    column is the form in which every database does that fast.
    """
    key = f"{queue}\0{method}\0{'' if priority is None else priority}"
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def ready_lane(*, at_once: bool = False) -> Any:
    """Return the expression for ``ready_lane`` of a row that becomes Pending.

    A row whose earlier body may still run, or whose time has not come, stands in no lane.
    ``at_once`` is for an UPDATE that also drops the time: it would still see the old one.
    """
    stands_back = Q(occupies=True)
    if not at_once:
        stands_back |= Q(run_at__gt=DatabaseNow())
    return Case(
        When(stands_back, then=None),
        default=F("lane"),
        output_field=BigIntegerField(),
    )
