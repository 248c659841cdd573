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
    numbers = counts_of([_with_this_id(batch_id)])[batch_id]
    return {status: numbers[status] for status in Status.values}


def _with_this_id(batch_id: str) -> TaskBatch:
    found: TaskBatch | None = TaskBatch.objects.filter(pk=batch_id).first()
    return found or TaskBatch(id=batch_id)


def progress(batch_id: str) -> dict[str, int]:
    """Return ``{"done", "failed", "canceled", "total"}`` of a batch, from its rows.

    Done counts the ended members: a failed one whose retry is due is not done.
    """
    batch = _with_this_id(batch_id)
    numbers = counts_of([batch])[batch_id]
    done, canceled = numbers["done"], numbers[Status.CANCELED]
    return {
        "done": done,
        "failed": done - numbers[Status.FINISHED] - canceled,
        "canceled": canceled,
        # Where members were pruned while this was read, the stored total knows of them.
        "total": max(batch.total, sum(numbers[status] for status in Status.values)),
    }


def counts_of(batches: Iterable[TaskBatch]) -> Mapping[str, Counter[str]]:
    """Return the counts by status of many batches in one statement.

    The key "done" is as in ``progress``: the ended members. The rows of the batches, with
    what they remember of pruned members, are read before: then none counts twice.
    """
    # Where the database's texts ignore case, rows may come under another spelling.
    numbers: dict[str, Counter[str]] = defaultdict(
        Counter, {batch.pk: Counter(batch.pruned) for batch in batches}
    )
    members = TaskLog.objects.filter(batch_id__in=list(numbers)).order_by()
    groups = members.values_list("batch_id", "status").annotate(
        n=Count("pk"), retrying=Count("retry_at")
    )
    retrying: Counter[str] = Counter()
    for batch_id, status, number, due in groups:
        numbers[batch_id][status] += number
        retrying[batch_id] += due
    for batch_id, number in numbers.items():
        number["done"] = sum(number[status] for status in TERMINAL) - retrying[batch_id]
    return numbers
