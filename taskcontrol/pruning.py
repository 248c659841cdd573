"""Deletes ended tasks that are older than the retention, page by page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db import transaction

from .conf import conf
from .dialect import DatabaseNow, skip_locked
from .models import TaskAttempt, TaskBatch, TaskEvent, TaskKey, TaskLog, Worker
from .status import TERMINAL

#: Days after which the row of a worker that is gone is deleted.
WORKER_DAYS = 7


def prune_ended_tasks(*, pages: int = 100) -> int:
    """Delete what ended longer ago than ``RETENTION_DAYS`` says; return how many tasks.

    Only ended tasks, by the time of their end: what waits, runs or is to be retried stays,
    however old. Batches keep the numbers of the members that go.
    """
    count = 0
    for status in sorted(TERMINAL):
        days = conf.RETENTION_DAYS.get(status)
        if days is None:
            continue
        for _ in range(pages):
            deleted = _prune_page(status, days)
            count += deleted
            if deleted < conf.SWEEP_PAGE:
                break
    _prune_workers()
    return count


def count_prunable() -> dict[str, int]:
    """Return how many tasks ``prune_ended_tasks`` would delete now, by status."""
    kept = conf.RETENTION_DAYS
    return {
        status: _ended_before(status, kept[status]).ended().filter(occupies=False).count()
        for status in sorted(TERMINAL)
        if kept.get(status) is not None
    }


def delete_tasks(ids: Iterable[int]) -> int:
    """Delete those of these tasks that have ended and whose body is gone; return how many.

    Batches keep their numbers, as when pruning.
    """
    wanted = TaskLog.objects.filter(pk__in=list(ids)).order_by("pk")
    count = deleted = _delete_page(wanted)
    while deleted == conf.SWEEP_PAGE:
        count += (deleted := _delete_page(wanted))
    return count


def _prune_page(status: str, days: float) -> int:
    return _delete_page(_ended_before(status, days).order_by("ended_at"))


def _ended_before(status: str, days: float) -> Any:
    long_ago = DatabaseNow() - timedelta(days=days)
    return TaskLog.objects.filter(status=status, ended_at__lt=long_ago)


def _delete_page(rows: Any) -> int:
    ended = skip_locked(rows.ended().filter(occupies=False))
    with transaction.atomic(using=conf.DATABASE):
        page = list(ended.values_list("pk", "batch_id", "status")[: conf.SWEEP_PAGE])
        ids = [pk for pk, _, _ in page]
        _keep_counts(Counter((batch, status) for _, batch, status in page if batch))
        for model in (TaskAttempt, TaskEvent, TaskKey):
            rows_of_task = model.objects.filter(task_id__in=ids)
            rows_of_task._raw_delete(rows_of_task.db)  # noqa: SLF001 - no row is loaded
        gone = TaskLog.objects.filter(pk__in=ids)
        gone._raw_delete(gone.db)  # noqa: SLF001 - no row is loaded
    return len(ids)


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
