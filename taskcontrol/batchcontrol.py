"""What a person does to all tasks of a batch: cancel, pause, resume, retry what failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Q

from . import keys, lifecycle, permissions
from .batches import find_batch, held_reason
from .bell import request_dispatch
from .brief import brief
from .conf import conf
from .dialect import DatabaseNow, locked_keys, now
from .exceptions import KeyTaken
from .models import TaskBatch, TaskLog
from .status import Status
from .text import clipped

if TYPE_CHECKING:
    from .people import Person

#: What waits first, so that nothing begins while the rest is canceled.
TO_CANCEL = (
    Status.PENDING,
    Status.PAUSED,
    Status.QUEUED,
    Status.FAILED,
    Status.STARTED,
)


def cancel_batch(batch_id: str, reason: str = "", *, user: Person | None = None) -> int:
    """Cancel all tasks of a batch that have not ended; return how many.

    From this call on the batch takes no more tasks (``BatchClosed``), so that also a
    coordinator that still adds some is stopped; the call waits for transactions that are
    adding some. For each task it is what ``cancel`` is. Made in many short transactions
    unless the caller has opened one; cut in the middle, it goes on when it is called again.

    ``user`` is recorded, and needs the permission ``cancel_tasklog``; without it the creator
    of the batch cancels the own tasks whose types allow that. Raises PermissionError,
    BatchNotFound.
    """
    members = _members(batch_id, user, permissions.CANCEL, "cancel")
    _take_before_the_batch(members, TO_CANCEL)
    TaskBatch.objects.filter(pk=batch_id, canceled_at=None).update(
        canceled_at=DatabaseNow()
    )
    count = 0
    while _any_left(members):
        # Again for what moved on from one status to another meanwhile.
        count += sum(_cancel(members, old, user, reason) for old in TO_CANCEL)
    request_dispatch()
    return count


def pause_batch(batch_id: str, reason: str = "", *, user: Person | None = None) -> int:
    """Hold the waiting tasks of a batch back until it is resumed; return how many.

    What was sent is taken back, what runs goes on. Tasks that are added or retried later
    are held back too. Permission as for ``pause``.
    """
    members = _members(batch_id, user, permissions.PRIORITIZE, "pause")
    before = members.filter(status=Status.PAUSED).count()
    TaskBatch.objects.filter(pk=batch_id, paused_at=None).update(
        paused_at=DatabaseNow(),
        paused_by=getattr(user, "pk", None),
        paused_reason=clipped(reason, 300),
    )
    while _hold_page(batch_id, members, user):
        pass
    # From now on the sweep pauses them too, so this call's own pages are not all.
    paused: int = members.filter(status=Status.PAUSED).count() - before
    return max(paused, 0)


def resume_batch(batch_id: str, *, user: Person | None = None) -> int:
    """Let the paused tasks of a batch go on at their places in the line; return how many.

    Ends a pause, and forgives the failures so far: only another one holds the rest back
    again. Permission as for ``resume``.
    """
    members = _members(batch_id, user, permissions.PRIORITIZE, "resume")
    _take_before_the_batch(members, (Status.PAUSED,))
    TaskBatch.objects.filter(pk=batch_id).update(
        paused_at=None, paused_by=None, paused_reason="", resumed_at=DatabaseNow()
    )
    count = 0
    while page := _page(members, Status.PAUSED):
        if held_reason(find_batch(batch_id)):
            break  # another failure, while these were let go
        count += lifecycle.resume_all(TaskLog.objects.filter(pk__in=page), actor=user)
    request_dispatch()
    return count


def retry_batch(
    batch_id: str, *, canceled: bool = False, user: Person | None = None
) -> int:
    """Run the failed tasks of a batch again, also those whose retry is due later.

    ``canceled=True``: the canceled ones too. Returns how many run again; a task whose
    deduplication key another one has taken stays as it is. A canceled batch takes tasks
    again, one that has ended goes on, and one that is held back stays so. Permission as for
    ``retry``.
    """
    members = _members(batch_id, user, permissions.RETRY, "retry")
    statuses = (Status.FAILED, Status.CANCELED) if canceled else (Status.FAILED,)
    _take_before_the_batch(members, statuses, with_keys=True)
    TaskBatch.objects.filter(pk=batch_id).update(canceled_at=None)
    count = sum(_retry(members, old, user) for old in statuses)
    request_dispatch()
    return count


def _members(batch_id: str, user: Any, permission: str, verb: str) -> Any:
    """Return the members that ``user`` may do this to; raises NotPermitted if none are."""
    batch = find_batch(batch_id)
    members = TaskLog.objects.filter(batch_id=batch_id)
    return permissions.allowed_of_batch(user, permission, batch, members, verb)


def _take_before_the_batch(
    members: Any, statuses: Iterable[Status], *, with_keys: bool = False
) -> None:
    """In a transaction of the caller's, lock the members first, and their keys before.

    Elsewhere each step is a transaction of its own. Here the batch's row stays locked to the
    end, and who adds or retries a member may wait for that with the member in his hands.
    """
    if not connections[conf.DATABASE].in_atomic_block:
        return
    rows = members.filter(status__in=list(statuses))
    if with_keys:
        options = rows.filter(options__has_key="keys").values_list("options", flat=True)
        own = {key for one in options for key in keys.keys_of(one)}
        if own:
            keys.lock(own)
    ids = list(rows.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(ids), conf.SWEEP_PAGE):
        page = ids[start : start + conf.SWEEP_PAGE]
        locked_keys(TaskLog.objects.filter(pk__in=page))


def _page(rows: Any, status: Status) -> list[int]:
    found = rows.filter(status=status).values_list("pk", flat=True)
    return list(found[: conf.SWEEP_PAGE])


def _any_left(members: Any) -> bool:
    waits_for_retry = Q(status=Status.FAILED, retry_at__isnull=False)
    alive = Q(status__in=sorted(set(TO_CANCEL) - {Status.FAILED}))
    return bool(members.filter(alive | waits_for_retry).values("pk")[:1])


def _cancel(members: Any, old: Status, user: Any, reason: str) -> int:
    rows = members.exclude(retry_at=None) if old is Status.FAILED else members
    count = 0
    while page := _page(rows, old):
        some = TaskLog.objects.filter(pk__in=page)
        count += lifecycle.cancel_all(some, old, actor=user, reason=reason)
    return count


def _hold_page(batch_id: str, members: Any, user: Any) -> int:
    """Pause one page, with the batch's row held: nobody resumes it in the meantime."""
    with brief():
        locked_keys(TaskBatch.objects.filter(pk=batch_id))
        batch = TaskBatch.objects.filter(pk=batch_id).exclude(paused_at=None).first()
        if batch is None:
            return 0
        reason = held_reason(batch)
        return lifecycle.hold_back(members, conf.SWEEP_PAGE, actor=user, reason=reason)


def _retry(members: Any, old: Status, user: Any) -> int:
    """Retry every member that is ``old`` now, each once: it may fail again meanwhile."""
    rows = members.filter(status=old, ended_at__lte=now(conf.DATABASE))
    count = 0
    refused: list[int] = []
    while page := _with_options(rows.exclude(pk__in=refused)):
        keyed = [pk for pk, options in page if "keys" in options]
        free = TaskLog.objects.filter(pk__in=[pk for pk, _ in page]).exclude(pk__in=keyed)
        count += lifecycle.retry_all(free, old, actor=user)
        won = [pk for pk in keyed if _retry_keyed(pk, old, user)]
        count += len(won)
        refused += sorted({*keyed} - {*won})
    return count


def _with_options(rows: Any) -> list[tuple[int, dict[str, Any]]]:
    return list(rows.values_list("pk", "options")[: conf.SWEEP_PAGE])


def _retry_keyed(task_id: int, old: Status, user: Any) -> bool:
    try:
        return lifecycle.retry_by_hand(task_id, old, actor=user)
    except KeyTaken:
        return False
