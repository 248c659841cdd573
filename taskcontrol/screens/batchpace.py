"""How fast the members of a batch end, and how long the rest will take at this pace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count
from django.utils.translation import gettext as _

from ..dialect import DatabaseNow
from ..models import TaskLog, seconds
from .presentation import brief

#: Seconds whose ends say how fast it goes now.
WINDOW = 300.0


@dataclass(frozen=True)
class Pace:
    """How many members end in a minute, and in how many seconds the last will have."""

    per_minute: float
    seconds_left: float | None

    def __str__(self) -> str:
        number = (
            f"{self.per_minute:,.0f}" if self.per_minute >= 10 else f"{self.per_minute:.1g}"
        )
        told = _("%(number)s a minute") % {"number": number}
        if self.seconds_left is None:
            return told
        left = _("about %(time)s left") % {"time": brief(self.seconds_left)}
        return f"{told}, {left}"


def paces_of(batches: Iterable[Any]) -> dict[str, Pace]:
    """Return the pace of each batch that moved lately; their numbers were read before.

    One statement over what ended in the last minutes, however many members there are.
    """
    going = {one.pk: one for one in batches if one.numbers["done"] < one.total}
    if not going:
        return {}
    lately = TaskLog.objects.filter(
        batch_id__in=list(going), ended_at__gt=DatabaseNow() - seconds(WINDOW)
    )
    found = lately.order_by().values_list("batch_id").annotate(n=Count("pk"))
    # Where the database's texts ignore case, rows may come under another spelling.
    return {key: _pace(going[key], number) for key, number in found if key in going}


def _pace(batch: Any, ended: int) -> Pace:
    per_second = ended / _observed(batch.created_at, batch.read_at)
    left = (batch.total - batch.numbers["done"]) / per_second
    return Pace(per_second * 60, None if batch.paused_at is not None else left)


def _observed(created: datetime, now: datetime) -> float:
    """Return for how many seconds of the window the batch has existed."""
    return min(max((now - created).total_seconds(), 1.0), WINDOW)
