"""Tasks enqueued together: the batch's row, and its numbers as read from its members."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections
from django.db.models import BigIntegerField, Count, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce

from .conf import conf
from .dialect import DatabaseNow, update_returning
from .exceptions import BatchClosed, BatchNotFound, NotPermitted
from .models import TaskBatch, TaskLog
from .options import label
from .status import TERMINAL, WAITING, Status

HOLD = TaskBatch.OnFailure.HOLD
#: What it takes to add tasks to the batch of another user: what its pause takes.
JOIN = "taskcontrol.prioritize_tasklog"
#: Before every failure.
LONG_AGO = dt.datetime(1970, 1, 2, tzinfo=dt.UTC)


def find_batch(batch_id: str) -> TaskBatch:
    """Return the row of a batch; raises BatchNotFound."""
    found: TaskBatch | None = TaskBatch.objects.filter(pk=batch_id).first()
    if found is None:
        raise BatchNotFound(batch_id)
    return found


def grow(batch_id: str, by: int, *, created_by: Any = None, title: str = "") -> None:
    """Add ``by`` tasks to the total of a batch, which is made when it does not exist.

    Call it in the transaction that inserts the tasks: done can then never pass the total,
    and nobody ends or cancels the batch between. Raises BatchClosed when it was canceled,
    NotPermitted when it is another user's than ``created_by`` (None: the system).
    """
    if _join(batch_id, by, created_by):
        return
    key = label(140)("batch_id", batch_id)
    owner = getattr(created_by, "pk", None)
    row = TaskBatch(id=key, created_by_id=owner, title=title, open_since=DatabaseNow())
    _make_or_take(row)
    if not _join(key, by, created_by):
        if TaskBatch.objects.filter(pk=key, canceled_at=None).exists():
            verb = f"add tasks to batch {key!r}, which is another user's"
            raise NotPermitted(created_by, JOIN, verb)
        why = f"it was canceled; retry_batch({key!r}) opens it again"
        raise BatchClosed(key, why)


def _make_or_take(batch: TaskBatch) -> None:
    """Insert the row of a batch; lock it if another hand made it at the same moment.

    After an INSERT that fails, MariaDB holds a shared lock, and ends all but one of those
    who made the batch together in deadlocks; after this one it holds the row's own.
    """
    targeted = connections[conf.DATABASE].features.supports_update_conflicts_with_target
    TaskBatch.objects.bulk_create(
        [batch],
        update_conflicts=True,
        unique_fields=["id"] if targeted else None,
        update_fields=["open_since"],
    )


def _join(batch_id: str, by: int, user: Any) -> bool:
    """The permission is asked only where the batch is not the user's or nobody's."""
    if user is None:
        return _grow(batch_id, by, Q())
    own = Q(created_by=None) | Q(created_by=user.pk)
    return _grow(batch_id, by, own) or (user.has_perm(JOIN) and _grow(batch_id, by, Q()))


def _grow(batch_id: str, by: int, whose: Q) -> bool:
    batches = TaskBatch.objects.filter(whose, pk=batch_id, canceled_at=None)
    grown = {"total": F("total") + by, **_opened()}
    return bool(update_returning(batches, grown, ("total",)))


def reopen(batch_ids: Iterable[str | None]) -> None:
    """Note that these batches have members again that have not ended.

    Call it in the transaction that revives the members: whoever is about to end a batch
    holds its row, and looks at the members afterwards.
    """
    ids = sorted({key for key in batch_ids if key is not None})
    for key in ids:
        update_returning(TaskBatch.objects.filter(pk=key), _opened(), ("total",))


def _opened() -> dict[str, Any]:
    return {"ended_at": None, "open_since": Coalesce("open_since", DatabaseNow())}


# What stands in the way. Each looks for one member of the outer query's batch by one probe
# of the index (batch_id, status, retry_at), however many members there are.


def unended_member() -> Any:
    """Return the expression for a member that has not ended; NULL when all have."""
    retrying = _members(Status.FAILED).filter(retry_at__isnull=False)
    alive = [_one(_members(status)) for status in Status if status not in TERMINAL]
    return Coalesce(*alive, _one(retrying))


def waiting_member() -> Any:
    """Return the expression for a member that the dispatcher may promote, or has sent."""
    promotable = WAITING - {Status.PAUSED}
    return Coalesce(*(_one(_members(status)) for status in sorted(promotable)))


def failed_member() -> Any:
    """Return the expression for a member that failed for good since the last resume."""
    resumed = Coalesce(OuterRef("resumed_at"), Value(LONG_AGO))
    failed = _members(Status.FAILED).filter(retry_at=None, ended_at__gt=resumed)
    return _one(failed)


def unsuccessful_member() -> Any:
    """Return the expression for a member that ended otherwise than Finished."""
    return Coalesce(*(_one(_members(one)) for one in (Status.FAILED, Status.CANCELED)))


def _members(status: Status) -> Any:
    return TaskLog.objects.filter(batch_id=OuterRef("pk"), status=status)


def _one(members: Any) -> Subquery:
    # Ordered as the index is: else the planner, who thinks that any row will do, may read
    # the table from its start.
    return Subquery(members.order_by("retry_at").values("pk")[:1])


def held_batches() -> Any:
    """Return (id, failed member, reason of a pause) of the batches that promote nothing.

    Only those that have something to promote or to take back: the others cost nothing.
    """
    columns = ("pk", "failed", "paused_reason")
    annotated = TaskBatch.objects.order_by().annotate(waiting=waiting_member())
    rows = annotated.filter(waiting__isnull=False)
    stopped = rows.filter(on_failure=HOLD, open_since__isnull=False, paused_at=None)
    stopped = stopped.annotate(failed=failed_member()).filter(failed__isnull=False)
    paused = rows.filter(paused_at__isnull=False).annotate(
        failed=Value(None, BigIntegerField())
    )
    both = stopped.values_list(*columns).union(paused.values_list(*columns), all=True)
    return both.order_by()  # from Django 6.1 on a union is ordered as its model


def held_reason(batch: TaskBatch) -> str:
    """Return why nothing of ``batch`` is promoted; empty when it may be."""
    if batch.paused_at is not None:
        why = f" ({batch.paused_reason})" if batch.paused_reason else ""
        return f"its batch is paused{why}"
    if batch.on_failure != HOLD:
        return ""
    rows = TaskBatch.objects.filter(pk=batch.pk)
    failed = rows.values_list(failed_member(), flat=True).first()
    return f"its batch is held back, since task {failed} failed" if failed else ""


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
        n=Count("*"), retrying=Count("retry_at")
    )
    retrying: Counter[str] = Counter()
    for batch_id, status, number, due in groups:
        numbers[batch_id][status] += number
        retrying[batch_id] += due
    for batch_id, number in numbers.items():
        number["done"] = sum(number[status] for status in TERMINAL) - retrying[batch_id]
    return numbers
