"""Counts what ended, minute by minute, into rows that get coarser with age: each end once.

What is counted are ends of tasks: a failure that is retried by itself is none. See
``docs/decisions/0012-rollup.md``.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Case, Count, F, FloatField, Sum, Value, When
from django.db.models.functions import Coalesce, Floor, Greatest, Ln

from . import dialect
from .brief import brief
from .conf import conf
from .dialect import SecondsBetween, SecondsOf, locked_keys, update_returning
from .histograms import PER_LN, SHORTEST, merged
from .models import DispatcherState, Rollup, TaskLog
from .status import Status

#: Seconds between two looks of a worker; one that finds the minutes counted costs 2 queries.
EVERY = 15.0
#: Seconds after a minute in which ends of it may still be committed.
SETTLES = 10.0
#: For how long a row stands for so many minutes, before it goes into one for more.
COARSER = (
    (1, 15, timedelta(hours=2)),
    (15, 60, timedelta(days=2)),
)
#: For how long the coarsest are kept.
KEPT = timedelta(days=8)
COARSEST = COARSER[-1][1]

MINUTE = timedelta(minutes=1)


def roll_up(*, seconds: float = 0.3) -> int:
    """Count the minutes that are over and not counted yet; return how many.

    After so many ``seconds`` only what was begun is ended: the next call goes on there.
    Safe to run anywhere, any number at once: a minute has one winner.
    """
    until = time.monotonic() + seconds
    count = 0
    while _count_next():
        count += 1
        if time.monotonic() >= until:
            break
    if count:
        _grow_old(until)
    return count


def floor_to(at: datetime, minutes: int) -> datetime:
    """Return the beginning of the span of so many minutes, from 1970 in UTC, around ``at``."""
    length = minutes * 60
    return datetime.fromtimestamp(at.timestamp() // length * length, UTC)


# Counting


def _count_next() -> bool:
    """Count the next minute in which anything ended; return whether there was one."""
    over = floor_to(dialect.now(conf.DATABASE) - timedelta(seconds=SETTLES), 1)
    states = DispatcherState.objects.filter(pk=DispatcherState.THE_ONE)
    before = states.values_list("rolled_until", flat=True).first()
    oldest = floor_to(over - KEPT, COARSEST)
    if before is not None and before >= over:
        return False
    begin = _next_end(max(before or oldest, oldest), over)
    after = min(begin + MINUTE, over)
    counted = list(_counts(begin, after))
    with brief():
        # Who else counted it, or counts it now, has moved this on.
        taken = states.filter(rolled_until=before)
        if not update_returning(taken, {"rolled_until": after}, ("rolled_until",)):
            return False
        Rollup.objects.bulk_create(counted)
    return begin < over


def _next_end(begin: datetime, over: datetime) -> datetime:
    """Return the first minute from ``begin`` on in which a task ended, or ``over``."""
    ends = TaskLog.objects.filter(ended_at__gte=begin, ended_at__lt=over)
    first = ends.order_by("ended_at").values_list("ended_at", flat=True).first()
    return over if first is None else floor_to(first, 1)


@dataclass
class _Tally:
    """What is counted for one row."""

    statuses: Counter[str] = field(default_factory=Counter)
    waits: Counter[int] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)
    run_seconds: float = 0.0

    def add(self, group: dict[str, Any]) -> None:
        """Count a group of equal ends."""
        self.statuses[group["status"]] += group["n"]
        if group["wait"] is not None:
            self.waits[int(group["wait"])] += group["n"]
        if group["run"] is not None:
            self.runs[int(group["run"])] += group["n"]
        self.run_seconds += group["seconds"] or 0.0


def _counts(begin: datetime, end: datetime) -> Iterator[Rollup]:
    """Yield the unsaved rows of all that ended in a span: of all, each queue and each type."""
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    for group in _groups(begin, end):
        method, queue = group["method"], group["queue"]
        for key in ("", ""), ("", queue), (method, queue):
            tallies[key].add(group)
    for (method, queue), tally in tallies.items():
        yield Rollup(
            start=begin,
            method=method,
            queue=queue,
            finished=tally.statuses[Status.FINISHED],
            failed=tally.statuses[Status.FAILED],
            canceled=tally.statuses[Status.CANCELED],
            waits=dict(sorted(tally.waits.items())),
            runs=dict(sorted(tally.runs.items())),
            run_seconds=round(tally.run_seconds, 3),
        )


def _groups(begin: datetime, end: datetime) -> Any:
    """Return how many tasks ended alike: same type, queue and status, about the same times."""
    ready = Greatest("created_at", Coalesce("run_at", "created_at"))
    # Of later attempts nobody knows since when they waited.
    first = When(attempt=1, started_at__isnull=False, then=_bin(ready=ready))
    ran = When(time_taken__isnull=False, then=_bin_of(SecondsOf("time_taken")))
    ended = TaskLog.objects.ended().filter(ended_at__gte=begin, ended_at__lt=end)
    return (
        ended.order_by()
        .annotate(
            wait=Case(first, default=None, output_field=FloatField()),
            run=Case(ran, default=None, output_field=FloatField()),
        )
        .values("method", "queue", "status", "wait", "run")
        .annotate(n=Count("pk"), seconds=Sum(SecondsOf("time_taken")))
    )


def _bin(*, ready: Any) -> Any:
    return _bin_of(SecondsBetween(ready, F("started_at")))


def _bin_of(seconds: Any) -> Any:
    """Return the bin of ``histograms.py`` as SQL."""
    share = Greatest(seconds / Value(SHORTEST), Value(1.0), output_field=FloatField())
    return Floor(Ln(share) * Value(PER_LN), output_field=FloatField())


# Growing old


def _grow_old(until: float) -> None:
    """Merge what is older than its resolution, and delete what is too old."""
    now = dialect.now(conf.DATABASE)
    for minutes, longer, age in COARSER:
        limit = floor_to(now - age, longer)
        while _merge_oldest(minutes, longer, limit) and time.monotonic() < until:
            pass
    old = Rollup.objects.filter(start__lt=now - KEPT, minutes=COARSEST)
    old._raw_delete(old.db)  # noqa: SLF001 - no row is loaded


def _merge_oldest(minutes: int, longer: int, limit: datetime) -> bool:
    """Merge the rows of the oldest span before ``limit``; return whether there was one."""
    short = Rollup.objects.filter(minutes=minutes, start__lt=limit)
    oldest = short.order_by("start").values_list("start", flat=True).first()
    if oldest is None:
        return False
    begin = floor_to(oldest, longer)
    with brief():
        # Only one merges at a time: the others wait here and then find nothing.
        locked_keys(DispatcherState.objects.all())
        # With what was merged before the rest of it was counted.
        rows = list(
            Rollup.objects.filter(
                minutes__in=(minutes, longer),
                start__gte=begin,
                start__lt=begin + longer * MINUTE,
            )
        )
        Rollup.objects.filter(pk__in=[row.pk for row in rows]).delete()
        Rollup.objects.bulk_create(_merged(rows, begin, longer))
    return bool(rows)


def _merged(rows: Iterable[Rollup], begin: datetime, minutes: int) -> Iterator[Rollup]:
    kinds: dict[tuple[str, str], list[Rollup]] = defaultdict(list)
    for row in rows:
        kinds[row.method, row.queue].append(row)
    for (method, queue), alike in kinds.items():
        yield Rollup(
            start=begin,
            minutes=minutes,
            method=method,
            queue=queue,
            finished=sum(row.finished for row in alike),
            failed=sum(row.failed for row in alike),
            canceled=sum(row.canceled for row in alike),
            waits=merged(row.waits for row in alike),
            runs=merged(row.runs for row in alike),
            run_seconds=round(sum(row.run_seconds for row in alike), 3),
        )
