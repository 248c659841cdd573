"""Deletes ended tasks that are older than the retention, page by page."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

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


def _prune_page(status: str, days: float) -> int:
    old = TaskLog.objects.filter(
        status=status,
        retry_at=None,
        occupies=False,
        ended_at__lt=DatabaseNow() - timedelta(days=days),
    ).order_by("ended_at")
    with transaction.atomic(using=conf.DATABASE):
        rows = list(skip_locked(old).values_list("pk", "batch_id")[: conf.SWEEP_PAGE])
        ids = [pk for pk, _ in rows]
        _keep_counts(status, Counter(batch for _, batch in rows if batch))
        for model in (TaskAttempt, TaskEvent, TaskKey):
            rows_of_task = model.objects.filter(task_id__in=ids)
            rows_of_task._raw_delete(rows_of_task.db)  # noqa: SLF001 - no row is loaded
        gone = TaskLog.objects.filter(pk__in=ids)
        gone._raw_delete(gone.db)  # noqa: SLF001 - no row is loaded
    return len(ids)


def _keep_counts(status: str, by_batch: Counter[str]) -> None:
    """Add the members that go to what their batches remember of pruned ones."""
    batches = TaskBatch.objects.filter(pk__in=by_batch).order_by("pk").select_for_update()
    for batch in batches:
        batch.pruned[status] = batch.pruned.get(status, 0) + by_batch[batch.pk]
        batch.save(update_fields=["pruned"])


def _prune_workers() -> None:
    old = Worker.objects.filter(
        last_seen_at__lt=DatabaseNow() - timedelta(days=WORKER_DAYS)
    )
    held = TaskLog.objects.filter(occupies=True).values("worker")
    old.exclude(pk__in=held.filter(worker__isnull=False)).delete()
