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


def ready_lane(*, at_once: bool = False, followed: bool = False) -> Any:
    """Return the expression for ``ready_lane`` of a row that becomes Pending.

    A row whose earlier body may still run, that comes after another task, or whose time has
    not come, stands in no lane. ``followed`` is for an UPDATE that also drops the other
    task, ``at_once`` for one that drops the time too: they would still see the old values.
    """
    stands_back = Q(occupies=True)
    if not at_once:
        stands_back |= Q(run_at__gt=DatabaseNow())
    if not at_once and not followed:
        stands_back |= Q(after__isnull=False)
    return Case(
        When(stands_back, then=None),
        default=F("lane"),
        output_field=BigIntegerField(),
    )
