"""Tasks enqueued together: the batch's row, and its numbers as read from its members."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, F

from .conf import conf
from .models import TaskBatch, TaskLog
from .status import TERMINAL, Status


def grow(batch_id: str, by: int, *, created_by: Any = None, title: str = "") -> None:
    """Add ``by`` tasks to the total of a batch, which is made when it does not exist.

    Call it in the transaction that inserts the tasks: done can then never pass the total.
    """
    if _grow(batch_id, by):
        return
    try:
        with transaction.atomic(using=conf.DATABASE):
            TaskBatch.objects.create(
                id=batch_id,
                total=by,
                created_by_id=getattr(created_by, "pk", None),
                title=title,
                ended_at=None,
            )
    except IntegrityError:
        _grow(batch_id, by)  # made by another hand at the same moment


def _grow(batch_id: str, by: int) -> bool:
    batches = TaskBatch.objects.filter(pk=batch_id)
    return bool(batches.update(total=F("total") + by, ended_at=None))


def counts(batch_id: str) -> dict[str, int]:
    """Return how many members stand in each status; every status is a key.

    Members that were pruned count under the status in which they ended.
    """
    numbers = dict.fromkeys(Status.values, 0)
    rows = TaskLog.objects.filter(batch_id=batch_id).order_by().values("status")
    for row in rows.annotate(n=Count("pk")):
        numbers[row["status"]] = row["n"]
    pruned = TaskBatch.objects.filter(pk=batch_id).values_list("pruned", flat=True).first()
    for status, number in (pruned or {}).items():
        numbers[status] += number
    return numbers


def progress(batch_id: str) -> dict[str, int]:
    """Return ``{"done", "failed", "canceled", "total"}`` of a batch, from its rows.

    Done counts the ended members: a failed one whose retry is due is not done.
    """
    numbers = counts(batch_id)
    retrying = TaskLog.objects.filter(batch_id=batch_id).exclude(retry_at=None).count()
    failed = numbers[Status.FAILED] - retrying
    done = numbers[Status.FINISHED] + numbers[Status.CANCELED] + failed
    return {
        "done": done,
        "failed": failed,
        "canceled": numbers[Status.CANCELED],
        "total": sum(numbers.values()),
    }


def counts_of(batches: Iterable[TaskBatch]) -> Mapping[str, Counter[str]]:
    """Return the counts by status of many batches in two statements.

    The key "done" is as in ``progress``: the ended members.
    """
    # Where the database's texts ignore case, rows may come under another spelling.
    numbers: dict[str, Counter[str]] = defaultdict(
        Counter, {batch.pk: Counter(batch.pruned) for batch in batches}
    )
    members = TaskLog.objects.filter(batch_id__in=list(numbers)).order_by()
    for row in members.values("batch_id", "status").annotate(n=Count("pk")):
        numbers[row["batch_id"]][row["status"]] += row["n"]
    for number in numbers.values():
        number["done"] = sum(number[status] for status in TERMINAL)
    retrying = members.filter(retry_at__isnull=False).values("batch_id")
    for row in retrying.annotate(n=Count("pk")):
        numbers[row["batch_id"]]["done"] -= row["n"]
    return numbers
