"""Deletes ended tasks that have been kept for long enough, page by page."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from django.db import DatabaseError, connections
from django.db.models import Q

from .brief import bounds, brief
from .conf import conf
from .conflicts import is_conflict
from .dialect import DatabaseNow, free_keys, skip_locked
from .models import (
    Checkpoint,
    Incident,
    TaskAttempt,
    TaskBatch,
    TaskEvent,
    TaskKey,
    TaskLog,
    TaskType,
    WaitInterval,
    Worker,
)
from .status import TERMINAL, Status

#: Days after which the row of a worker that is gone is deleted.
WORKER_DAYS = 7
#: Days for which it is kept what held waiting tasks back.
WAIT_DAYS = 30
#: Days for which an incident is kept after it was last seen.
INCIDENT_DAYS = 90


def prune_ended_tasks(*, seconds: float = 300.0) -> int:
    """Delete what has been kept for long enough; return how many tasks.

    That is what ended longer ago than its type or ``RETENTION_DAYS`` says, and of the
    failed ones of a type all but the newest ``FAILED_LIMIT_PER_TYPE``. Only ended tasks:
    what waits, runs or is to be retried stays, however old. Batches keep the numbers of
    the members that go. Pages of ``SWEEP_PAGE`` go one by one, each a transaction of its
    own; after so many ``seconds`` only one more of each type and status.
    """
    until = time.monotonic() + seconds
    count = sum(_delete(rule.rows.order_by("ended_at"), until) for rule in _rules())
    _prune_workers()
    long_ago = DatabaseNow() - timedelta(days=WAIT_DAYS)
    WaitInterval.objects.filter(to_at__lt=long_ago).delete()
    long_ago = DatabaseNow() - timedelta(days=INCIDENT_DAYS)
    Incident.objects.filter(last_at__lt=long_ago).delete()
    return count


def count_prunable() -> dict[str, int]:
    """Return how many tasks ``prune_ended_tasks`` would delete now, by status."""
    most: dict[tuple[str, str], int] = {}
    for method, status, rows in _rules():
        # Each rule takes the oldest of them, so what one takes and another is counted once.
        number = rows.ended().filter(occupies=False).count()
        most[method, status] = max(number, most.get((method, status), 0))
    counts: dict[str, int] = dict.fromkeys(sorted(TERMINAL), 0)
    for (_, status), number in most.items():
        counts[status] += number
    return counts


class Rule(NamedTuple):
    """The tasks of one type and status that end too long ago to be kept."""

    method: str
    status: str
    rows: Any


def _rules() -> Iterator[Rule]:
    """Yield what may go, type by type: each is one range of the index by type and end."""
    own = dict(TaskType.objects.values_list("method", "retention_days"))
    for method in _methods():
        days_of = {**conf.RETENTION_DAYS, **(own.get(method) or {})}
        for status in sorted(TERMINAL):
            rows = TaskLog.objects.filter(method=method, status=status)
            days = days_of.get(status)
            if days is not None:
                long_ago = DatabaseNow() - timedelta(days=days)
                yield Rule(method, status, rows.filter(ended_at__lt=long_ago))
        limit = conf.FAILED_LIMIT_PER_TYPE
        if limit is not None:
            yield from _beyond(limit, method)


def _beyond(limit: int, method: str) -> Iterator[Rule]:
    """Yield the failed tasks of a type without the newest ``limit``."""
    rows = TaskLog.objects.filter(method=method, status=Status.FAILED, retry_at=None)
    newest = rows.order_by("-ended_at", "-pk").values_list("ended_at", "pk")
    for ended_at, pk in newest[limit : limit + 1]:
        as_new = Q(ended_at=ended_at, pk__gt=pk)
        older = rows.filter(ended_at__lte=ended_at).exclude(as_new)
        yield Rule(method, Status.FAILED, older)


def _methods() -> Iterator[str]:
    """Yield the methods of all tasks, jumping from one to the next in their index."""
    methods = TaskLog.objects.order_by("method").values_list("method", flat=True)
    method = methods.first()
    while method is not None:
        yield method
        method = methods.filter(method__gt=method).first()


def delete_tasks(ids: Iterable[int]) -> int:
    """Delete those of these tasks that have ended and whose body is gone; return how many.

    Batches keep their numbers, as when pruning.
    """
    wanted = TaskLog.objects.filter(pk__in=list(ids)).order_by("pk")
    return _delete(wanted, until=math.inf)


def _delete(rows: Any, until: float) -> int:
    count = deleted = _delete_page(rows)
    while deleted == conf.SWEEP_PAGE and time.monotonic() < until:
        count += (deleted := _delete_page(rows))
    return count


def _delete_page(rows: Any) -> int:
    try:
        return _delete_first(rows)
    except DatabaseError as error:
        if connections[conf.DATABASE].in_atomic_block or not is_conflict(error):
            raise
        return 0  # somebody else is at them; what is left goes the next time


def _delete_first(rows: Any) -> int:
    ended = skip_locked(rows.ended().filter(occupies=False))
    with brief():
        told = ended.values_list("pk", "batch_id", "status", *bounds(conf.DATABASE))
        page = [row[:3] for row in told[: conf.SWEEP_PAGE]]
        ids = [pk for pk, _, _ in page]
        _keep_counts(Counter((batch, status) for _, batch, status in page if batch))
        for model in (TaskAttempt, TaskEvent, Checkpoint):
            rows_of_task = model.objects.filter(task_id__in=ids)
            rows_of_task._raw_delete(rows_of_task.db)  # noqa: SLF001 - no row is loaded
        _delete_keys(ids)
        gone = TaskLog.objects.filter(pk__in=ids)
        gone._raw_delete(gone.db)  # noqa: SLF001 - no row is loaded
    return len(ids)


def _delete_keys(ids: list[int]) -> None:
    """Delete the deduplication keys that these tasks took last.

    One that somebody is taking in this moment stays: he locks keys before tasks.
    """
    free = free_keys(TaskKey.objects.filter(task_id__in=ids))
    keys = TaskKey.objects.filter(pk__in=free)
    keys._raw_delete(keys.db)  # noqa: SLF001 - no row is loaded


def _keep_counts(gone: Counter[tuple[str, str]]) -> None:
    """Add the members that go to what their batches remember of pruned ones."""
    ids = {batch for batch, _ in gone}
    for batch in TaskBatch.objects.filter(pk__in=ids).order_by("pk").select_for_update():
        numbers = {status: n for (of, status), n in gone.items() if of == batch.pk}
        batch.pruned = dict(Counter(batch.pruned) + Counter(numbers))
        batch.save(update_fields=["pruned"])


def _prune_workers() -> None:
    old = Worker.objects.filter(
        last_seen_at__lt=DatabaseNow() - timedelta(days=WORKER_DAYS)
    )
    held = TaskLog.objects.filter(occupies=True).values("worker")
    old.exclude(pk__in=held.filter(worker__isnull=False)).delete()
