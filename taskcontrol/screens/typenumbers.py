"""How the tasks of a type went in the last 24 hours: how many, how many failed, how long."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ..dialect import DatabaseNow
from ..models import TaskLog
from ..status import Status

WINDOW = timedelta(hours=24)
#: Ended tasks that are read at most, the newest.
MOST_READ = 5_000
#: What is counted: what a person canceled says nothing of a type.
COUNTED = (Status.FINISHED, Status.FAILED)


@dataclass
class TypeNumbers:
    """What the ended tasks of one type tell; ``cut`` when there were more than are read."""

    ended: int = 0
    failed: int = 0
    cut: bool = False
    #: Seconds of each finished run, the shortest first.
    runs: list[float] = field(default_factory=list)

    @property
    def failed_percent(self) -> float:
        """How many of a hundred failed."""
        return 100 * self.failed / self.ended if self.ended else 0.0

    def percentile(self, percent: float) -> float | None:
        """Return the seconds within which so many of a hundred runs were done."""
        if not self.runs:
            return None
        return self.runs[min(int(len(self.runs) * percent / 100), len(self.runs) - 1)]


def numbers_of(methods: Collection[str]) -> dict[str, TypeNumbers]:
    """Return the numbers of each method, from the newest rows of the whole site.

    Read in one statement, by the index of the time of the end from its end.
    """
    return _numbers(methods, [_newest(TaskLog.objects.all())])


def numbers_of_one(method: str) -> TypeNumbers:
    """Return the numbers of one method, from its own newest rows.

    Read in two statements, by the index of (method, status, time of the end) from its end.
    """
    own = TaskLog.objects.filter(method=method)
    return _numbers([method], [_newest(own.filter(status=one)) for one in COUNTED])[method]


def _numbers(methods: Collection[str], reads: Iterable[Any]) -> dict[str, TypeNumbers]:
    numbers = {method: TypeNumbers() for method in methods}
    for read in reads:
        rows = list(read)
        _add(numbers, (row for row in rows if row[0] in numbers))
        for one in numbers.values() if len(rows) == MOST_READ else ():
            one.cut = True
    for one in numbers.values():
        one.runs.sort()
    return numbers


def _newest(rows: Any) -> Any:
    rows = rows.filter(ended_at__isnull=False, ended_at__gt=DatabaseNow() - WINDOW)
    return rows.order_by("-ended_at").values_list("method", "status", "time_taken")[
        :MOST_READ
    ]


def _add(numbers: dict[str, TypeNumbers], rows: Iterable[Any]) -> None:
    for method, status, taken in rows:
        if status not in COUNTED:
            continue
        one = numbers[method]
        one.ended += 1
        one.failed += status == Status.FAILED
        if status == Status.FINISHED and taken is not None:
            one.runs.append(taken.total_seconds())
