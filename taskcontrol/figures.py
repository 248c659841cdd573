"""What ended lately and how long it took, of all, a queue or a type: read from the rollup."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Sum

from . import dialect
from .conf import conf
from .histograms import merged, percentile
from .models import Rollup
from .rollup import COARSER, floor_to

#: How long the spans of the rows are: naming them lets the index by length and start serve.
SPANS = (COARSER[0][0], *(longer for _, longer, _ in COARSER))


@dataclass(frozen=True)
class Figures:
    """How many tasks ended how, and how long they waited and ran."""

    finished: int = 0
    failed: int = 0
    canceled: int = 0
    #: Of first attempts: seconds from being ready to the start.
    waits: dict[int, int] = field(default_factory=dict)
    #: Of last attempts: seconds that the body ran.
    runs: dict[int, int] = field(default_factory=dict)
    #: Of all these runs together.
    run_seconds: float = 0.0

    @property
    def ended(self) -> int:
        """All of them."""
        return self.finished + self.failed + self.canceled

    @property
    def failed_percent(self) -> float:
        """Return how many of a hundred failed, of those that were not canceled."""
        judged = self.finished + self.failed
        return 100 * self.failed / judged if judged else 0.0

    def wait(self, percent: float) -> float | None:
        """Return the seconds within which so many of a hundred began; None if none did."""
        return percentile(self.waits, percent)

    def run(self, percent: float) -> float | None:
        """Return the seconds within which so many of a hundred were done; None if none ran."""
        return percentile(self.runs, percent)


@dataclass(frozen=True)
class Span:
    """The figures of a span of time."""

    begin: datetime
    end: datetime
    figures: Figures


def figures(method: str, *, hours: float = 24, queue: str = "") -> Figures:
    """Return what the tasks of one type did over the last ``hours`` (at most 8 days).

    ``queue`` narrows it to one queue. What ended within the last minute or so is not in
    it yet. Percentiles are at most 9 % off: ``figures("shop.report").run(95)``.
    """
    rows = _since(hours).filter(method=method)
    return _sum(rows.filter(queue=queue) if queue else rows)


def figures_of(methods: Collection[str], *, hours: float = 24) -> dict[str, Figures]:
    """Return the same for several types at once, in one query; nothing of those unseen."""
    by_method: dict[str, list[Rollup]] = defaultdict(list)
    for row in _since(hours).filter(method__in=methods):
        by_method[row.method].append(row)
    return {method: _sum(rows) for method, rows in by_method.items()}


def figures_of_queues(queues: Collection[str], *, hours: float = 1) -> dict[str, Figures]:
    """Return what ended in each of several queues, in one query; nothing of those unseen."""
    by_queue: dict[str, list[Rollup]] = defaultdict(list)
    for row in _since(hours).filter(method="", queue__in=queues):
        by_queue[row.queue].append(row)
    return {queue: _sum(rows) for queue, rows in by_queue.items()}


def all_types(*, hours: float = 24) -> dict[str, Figures]:
    """Return the counts of each type over the last ``hours``, without waits and runs."""
    names = ("finished", "failed", "canceled", "run_seconds")
    rows = _since(hours).exclude(method="").order_by().values("method")
    return {
        row.pop("method"): Figures(**row)
        for row in rows.annotate(**{name: Sum(name) for name in names})
    }


def series(count: int, minutes: int) -> list[Span]:
    """Return the last ``count`` spans of so many minutes of all tasks, the present one last."""
    length = timedelta(minutes=minutes)
    first = floor_to(dialect.now(conf.DATABASE), minutes) - (count - 1) * length
    rows: dict[datetime, list[Rollup]] = defaultdict(list)
    for row in Rollup.objects.filter(method="", queue="", start__gte=first):
        rows[floor_to(row.start, minutes)].append(row)
    begins = [first + number * length for number in range(count)]
    return [Span(begin, begin + length, _sum(rows[begin])) for begin in begins]


def total(spans: Iterable[Span]) -> Figures:
    """Return the figures of all ``spans`` together."""
    return _sum(span.figures for span in spans)


def _since(hours: float) -> Any:
    begin = dialect.now(conf.DATABASE) - timedelta(hours=hours)
    return Rollup.objects.filter(minutes__in=SPANS, start__gte=begin)


def _sum(parts: Iterable[Rollup | Figures]) -> Figures:
    parts = list(parts)
    return Figures(
        finished=sum(part.finished for part in parts),
        failed=sum(part.failed for part in parts),
        canceled=sum(part.canceled for part in parts),
        waits=merged(part.waits for part in parts),
        runs=merged(part.runs for part in parts),
        run_seconds=sum(part.run_seconds for part in parts),
    )
