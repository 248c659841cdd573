"""The only file that writes ``status``: one function per arrow of ``status.MOVES``.

Each is a conditional UPDATE that says what it expects, so that the database decides every
race; what it returns is what it moved. Nothing here decides *whether* to move.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import connections, models
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.functions import Cast, Concat, Greatest

from . import batches, crashpoints, keys
from .announcing import announce, anyone_listens
from .brief import bounds, brief
from .conf import conf
from .dialect import (
    DatabaseNow,
    free_keys,
    locked_keys,
    skip_locked,
    update_returning,
)
from .grouped import TOLD, Ran, finish_many
from .history import CLEARED, archive, record
from .lanes import ready_lane
from .models import TaskAttempt, TaskEvent, TaskLog, Worker
from .pokes import poke_after_commit
from .prepared import PreparedMove, padded
from .status import MOVES, Status
from .text import clipped, last_line

Kind = TaskEvent.Kind

#: What a worker needs of a claimed row.
CLAIMED = tuple(
    field.attname
    for field in TaskLog._meta.concrete_fields
    if field.name not in {"error_message", "debug_log", "result", "progress", "ready_lane"}
)


def promote(ids: Sequence[int], *, site: str) -> list[TaskLog]:
    """Pending -> Queued: give each task its next attempt and its message's id."""
    if not ids:
        return []
    size, given = padded(ids)
    return _announced(_promote(size), {**given, "site": f"{site}-"}, alone=False)


def promote_and_claim(ids: Sequence[int], *, site: str, worker_id: int) -> list[Card]:
    """Pending -> Queued, and claimed by a worker, whose own children will run them.

    No other may begin them, and that it has given one back is for the worker alone to say.
    """
    if not ids:
        return []

    size, given = padded(ids)
    given = {**given, "site": f"{site}-", "worker": worker_id}
    arrow = _promote(size, claimed=True)
    with brief(savepoint=False, swift=True):
        names = arrow.names()
        moved = [Card(names, row) for row in arrow.tuples(conf.DATABASE, given)]
        announce(moved, arrow.old, arrow.new)  # type: ignore[arg-type]
        poke_after_commit(moved)
        _before_commit(moved, arrow.new)
    return moved


class Card:
    """What stands in a row that was sent and claimed at once, as the driver gave it."""

    attempt: int
    method: str
    queue: str
    timeout: int
    retry_count: int
    lost_count: int
    heard: bool
    expires_at: Any
    options: Any
    arguments: Any

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self.__dict__.update(zip(names, values, strict=False))
        #: What ``prepared.Thaw`` makes a row of, where its body runs.
        self.values = tuple(values)

    @property
    def pk(self) -> int:
        """The key of the task."""
        return int(self.__dict__["id"])


@cache
def _promote(size: int, *, claimed: bool = False) -> Arrow:
    def build(p: Any) -> Any:
        rows = TaskLog.objects.filter(
            pk__in=[p(f"id{n}", "id") for n in range(size)], occupies=False
        )
        if claimed:
            there = Worker.objects.filter(left_at=None, lost_at=None)
            rows = rows.filter(Exists(there.filter(pk=p("worker", "worker"))))
        number = Cast(F("attempt") + 1, models.CharField())
        prefix = Cast(p("site", "celery_task_id"), models.CharField())
        return rows, {
            "attempt": F("attempt") + 1,
            "celery_task_id": Concat(
                prefix, Cast("pk", models.CharField()), Value("-"), number
            ),
            "queued_at": DatabaseNow(),
            "sent_at": DatabaseNow(),
            "sent_count": 0,
            "ready_lane": None,
            "occupies": True,
            "worker": p("worker", "worker") if claimed else None,
            "pid": None,
        }

    columns = ("attempt", "queue", "timeout", "celery_task_id", "method")
    return Arrow(Status.PENDING, Status.QUEUED, build, CLAIMED if claimed else columns)


def claim(task_id: int, attempt: int, *, worker_id: int | None, pid: int) -> TaskLog | None:
    """Queued -> Started for this attempt; None when it is not (or no more) to be run.

    Nor when ``worker_id`` counts as gone: nobody would vouch for the body, and others have
    the worker's tasks. None is somebody who is no worker. Nor when another worker has
    claimed it as it was sent: the body may have begun there.
    """
    given = {"id": task_id, "attempt": attempt, "worker": worker_id, "pid": pid}
    won = _announced(_claim(by_worker=worker_id is not None), given)
    return won[0] if won else None


@cache
def _claim(*, by_worker: bool) -> Arrow:
    def build(p: Any) -> Any:
        unexpired = Q(expires_at=None) | Q(expires_at__gt=DatabaseNow())
        rows = TaskLog.objects.filter(
            unexpired, pk=p("id", "id"), attempt=p("attempt", "attempt")
        )
        if by_worker:
            there = Worker.objects.filter(left_at=None, lost_at=None)
            rows = rows.filter(Exists(there.filter(pk=p("worker", "worker"))))
            rows = rows.filter(Q(worker=None) | Q(worker=p("worker", "worker")))
        else:
            rows = rows.filter(worker=None)
        return rows, {
            "started_at": DatabaseNow(),
            "worker": p("worker", "worker"),
            "pid": p("pid", "pid"),
        }

    return Arrow(Status.QUEUED, Status.STARTED, build, CLAIMED)


def begin(
    task_id: int, attempt: int, *, worker_id: int | None, pid: int, ago: float
) -> bool:
    """Queued -> Started for an attempt that its worker claimed as it was sent.

    The body began ``ago`` seconds before. False when somebody canceled it, or gave it up.
    """
    given = {
        "id": task_id,
        "attempt": attempt,
        "worker": worker_id,
        "pid": pid,
        "began": timedelta(seconds=ago),
    }
    return bool(_announced(_begin(), given))


@cache
def _begin() -> Arrow:
    def build(p: Any) -> Any:
        return _claimed_rows(p), {"started_at": _ago(p, "began"), "pid": p("pid", "pid")}

    return Arrow(Status.QUEUED, Status.STARTED, build, ())


def _claimed_rows(p: Any) -> Any:
    return TaskLog.objects.filter(
        pk=p("id", "id"), attempt=p("attempt", "attempt"), worker=p("worker", "worker")
    )


def _ago(p: Any, name: str) -> Any:
    """Return the time so long ago, and not before the attempt was sent."""
    return Greatest(F("queued_at"), DatabaseNow() - p(name, "time_taken"))


def finish_claimed(ran: Sequence[Ran], *, worker_id: int | None) -> set[int]:
    """Queued or Started -> Finished for attempts that their worker claimed as it sent them.

    All in one transaction; return the keys of those that moved. The others were canceled,
    given up, or are ``heard``: of those each move is to be told by itself.
    """

    together = connections[conf.DATABASE].vendor == "postgresql"
    with brief(savepoint=False, swift=True):
        if together:
            moved = finish_many(
                ran, worker_id, Status.QUEUED, Status.STARTED, Status.FINISHED
            )
        else:
            moved = _finish_one_by_one(ran, worker_id)
        for old, tasks in moved.items():
            announce(tasks, old, Status.FINISHED)  # type: ignore[arg-type]
            poke_after_commit(tasks)
            _before_commit(tasks, Status.FINISHED)
    return {task.pk for tasks in moved.values() for task in tasks}


def _finish_one_by_one(ran: Sequence[Ran], worker_id: int | None) -> dict[str, list[Any]]:
    moved: dict[str, list[Any]] = {Status.QUEUED: [], Status.STARTED: []}
    for one in sorted(ran, key=lambda one: one.task_id):
        given = {**one.as_columns(), "worker": worker_id}
        told = tuple(name for name in TOLD if name in given)
        for old in (Status.QUEUED, Status.STARTED):
            moved[old] += _finished(old, told).unheard.run(conf.DATABASE, given)
    return moved


@cache
def _finished(old: Status, told: tuple[str, ...]) -> Arrow:
    def build(p: Any) -> Any:
        begun = {"started_at": _ago(p, "began"), "pid": p("pid", "pid")}
        return _claimed_rows(p), {
            **(begun if old is Status.QUEUED else {}),
            "ended_at": _ago(p, "ended"),
            "occupies": False,
            **{name: p(name, name) for name in told},
        }

    return Arrow(old, Status.FINISHED, build, ())


def finish(task_id: int, attempt: int, *, body_gone: bool = True, **outcome: Any) -> bool:
    """Started -> Finished; False when the attempt was canceled or given up on.

    ``body_gone=False`` keeps the place occupied: the body goes on behind its fenced block.
    """
    return _end(task_id, attempt, Status.FINISHED, body_gone=body_gone, **outcome)


def fail(
    task_id: int,
    attempt: int,
    *,
    error: str,
    reason: str = "",
    retry_in: float | None = None,
    body_gone: bool = True,
    **outcome: Any,
) -> bool:
    """Started -> Failed, with ``retry_at`` decided here if ``retry_in`` seconds are given.

    ``body_gone=False`` keeps the place occupied: the process may still run the body.
    """
    return _end(
        task_id,
        attempt,
        Status.FAILED,
        body_gone=body_gone,
        retry_in=retry_in,
        error_message=error,
        ended_reason=clipped(reason, 300),
        **outcome,
    )


def _end(
    task_id: int,
    attempt: int,
    to: Status,
    *,
    body_gone: bool,
    retry_in: float | None = None,
    **values: Any,
) -> bool:
    retried = retry_in is not None
    arrow = _ending(to, retried, tuple(sorted(values)))
    given = {"id": task_id, "attempt": attempt, "occupies": not body_gone, **values}
    if retried:
        # In this order NaN becomes 0.
        delay = min(max(0.0, retry_in or 0.0), LONGEST_DELAY)
        given["later"] = timedelta(seconds=delay)
    error = last_line(values.get("error_message", ""))
    return bool(_announced(arrow, given, error=error))


#: Seconds after which a retry is as good as none.
LONGEST_DELAY = 10 * 365 * 86400.0


@cache
def _ending(to: Status, retried: bool, columns: tuple[str, ...]) -> Arrow:  # noqa: FBT001 - cached
    def build(p: Any) -> Any:
        rows = TaskLog.objects.filter(pk=p("id", "id"), attempt=p("attempt", "attempt"))
        later = DatabaseNow() + p("later", "time_taken")
        due = Case(
            When(retry_count__lt=F("max_retries"), then=later),
            default=None,
            output_field=models.DateTimeField(),
        )
        return rows, {
            "ended_at": DatabaseNow(),
            "occupies": p("occupies", "occupies"),
            "retry_at": due if retried else None,
            **{name: p(name, name) for name in columns},
        }

    # Whether a failure is the end, or an automatic retry follows, belongs to its news.
    return Arrow(Status.STARTED, to, build, ("retry_at",) if retried else ())


def cancel(task: TaskLog, *, actor: Any = None, reason: str = "") -> Status | None:
    """Any status that is not ended -> Canceled; return the status that it left, or None.

    Reads the status and writes under it, again while others are faster: every round that
    loses means that the task moved on, and it can do so only a few times.
    """
    while True:
        row = TaskLog.objects.filter(pk=task.pk).values("status", "retry_at").first()
        if row is None or Status.CANCELED not in MOVES[Status(row["status"])]:
            return None
        old = Status(row["status"])
        if old is Status.FAILED and row["retry_at"] is None:
            return None
        if _cancel_from(old, TaskLog.objects.filter(pk=task.pk), actor, reason):
            return old


def cancel_all(rows: Any, old: Status, *, actor: Any = None, reason: str = "") -> int:
    """Those of ``rows`` that are ``old`` -> Canceled; return how many."""
    with brief():
        locked = locked_keys(rows.filter(status=old))
        return len(_cancel_from(old, rows.filter(pk__in=locked), actor, reason))


def _cancel_from(old: Status, rows: Any, actor: Any, reason: str) -> list[TaskLog]:
    values = _freed(old)
    if old is Status.STARTED:
        values = {"cancel_requested_at": DatabaseNow()}
    if old is Status.QUEUED:
        values = {
            **values,
            "cancel_requested_at": Case(
                When(worker=None, then=F("cancel_requested_at")), default=DatabaseNow()
            ),
        }
    if old is Status.FAILED:
        rows = rows.exclude(retry_at=None)
    with brief():
        moved = _move(
            rows,
            old,
            Status.CANCELED,
            ended_at=DatabaseNow(),
            retry_at=None,
            ready_lane=None,
            canceled_by=getattr(actor, "pk", None),
            ended_reason=clipped(reason, 300),
            message=clipped(reason, 1000) or None,
            columns=("attempt",),
            **values,
        )
        record(
            moved, Kind.CANCELED, actor=actor, old=old, new=Status.CANCELED, detail=reason
        )
    return moved


def _freed(old: Status) -> dict[str, Any]:
    """Only a task that was sent gives its place up when it is stopped.

    Behind every other one the body of this or of an earlier attempt may still run; so it may
    behind one that a worker claimed as it was sent, until that worker says otherwise.
    """
    held = Case(When(worker=None, then=Value(value=False)), default=F("occupies"))
    return {"occupies": held} if old is Status.QUEUED else {}


def expire(page: int) -> int:
    """Waiting -> Canceled for tasks past ``expires_at``; return how many."""
    count = 0
    for old in (Status.PENDING, Status.PAUSED, Status.QUEUED):
        due = TaskLog.objects.filter(
            status=old, expires_at__lte=DatabaseNow(), ended_at=None
        ).order_by("expires_at")
        if old is Status.QUEUED:
            # Of one that a worker has claimed only that knows whether it began in time.
            due = due.filter(worker=None)
        with brief():
            moved = _move(
                TaskLog.objects.filter(pk__in=_free_ones(due[:page])),
                old,
                Status.CANCELED,
                ended_at=DatabaseNow(),
                ready_lane=None,
                ended_reason=_how_it_expired(),
                columns=("attempt",),
                **_freed(old),
            )
            record(moved, Kind.EXPIRED, old=old, new=Status.CANCELED)
        count += len(moved)
    return count


def _how_it_expired() -> Case:
    """Only a run that began is archived, and only a retry by hand sets an expiry aside."""
    runs = TaskAttempt.objects.filter(task=OuterRef("pk"))
    lost = "its process was lost, and it expired before it could start again"
    return Case(
        When(lost_count__gt=0, then=Value(lost)),
        When(Exists(runs), then=Value("expired before it could start again")),
        default=Value("expired before it started"),
    )


def pause(task_id: int, *, actor: Any = None, reason: str = "") -> bool:
    """Pending -> Paused."""
    return bool(_pause(TaskLog.objects.filter(pk=task_id), actor, reason))


def pause_all(rows: Any, *, actor: Any = None, reason: str = "") -> int:
    """Pending -> Paused for those of ``rows`` that nobody else is changing; return how many."""
    with brief():
        free = _free_ones(rows.filter(status=Status.PENDING))
        return _pause(TaskLog.objects.filter(pk__in=free), actor, reason)


def _pause(rows: Any, actor: Any, reason: str) -> int:
    return _hold(rows, Status.PENDING, Status.PAUSED, Kind.PAUSED, actor, reason)


def hold_back(rows: Any, page: int, *, actor: Any = None, reason: str = "") -> int:
    """Queued -> Pending and Pending -> Paused for a page of ``rows``; return how many."""
    with brief():
        sent = rows.filter(status=Status.QUEUED).values_list("pk", "attempt")[:page]
        unsend(list(sent), detail=reason)
        waiting = rows.filter(status=Status.PENDING).values_list("pk", flat=True)[:page]
        same = TaskLog.objects.filter(pk__in=list(waiting))
        return pause_all(same, actor=actor, reason=reason)


def resume(task_id: int, *, actor: Any = None) -> bool:
    """Paused -> Pending, at its old place in the line."""
    return bool(_resume(TaskLog.objects.filter(pk=task_id), actor))


def resume_all(rows: Any, *, actor: Any = None) -> int:
    """Paused -> Pending for those of ``rows`` that are Paused; return how many."""
    with brief():
        paused = rows.filter(status=Status.PAUSED)
        locked = locked_keys(paused)
        return _resume(TaskLog.objects.filter(pk__in=locked), actor)


def _resume(rows: Any, actor: Any) -> int:
    return _hold(rows, Status.PAUSED, Status.PENDING, Kind.RESUMED, actor, "")


def _hold(rows: Any, old: Status, new: Status, kind: Kind, actor: Any, reason: str) -> int:
    lane = ready_lane() if new is Status.PENDING else None
    with brief():
        moved = _move(
            rows,
            old,
            new,
            ready_lane=lane,
            message=clipped(reason, 1000) or None,
            columns=("attempt",),
        )
        record(moved, kind, actor=actor, old=old, new=new, detail=reason)
    return len(moved)


def retry_due(ids: Sequence[int]) -> int:
    """Failed -> Pending for automatic retries whose time has come; return how many."""
    due = TaskLog.objects.filter(
        pk__in=ids, retry_at__lte=DatabaseNow(), retry_count__lt=F("max_retries")
    )
    with brief():
        locked = _free_ones(due.filter(status=Status.FAILED))
        archive(locked)
        crashpoints.reached("retries.archived")
        moved = _again(due.filter(pk__in=locked), Status.FAILED)
    return len(moved)


#: A retry by hand is wanted now: what once held the task back or ended it is forgotten.
ASKED_FOR: dict[str, Any] = {
    "ready_lane": ready_lane(at_once=True),
    "lost_count": 0,
    "run_at": None,
    "expires_at": None,
    "after": None,
}


def retry_by_hand(
    task_id: int, old: Status, *, actor: Any = None, first: bool = False
) -> bool:
    """Failed or Canceled -> Pending because somebody asked; ``first`` puts it at the front.

    Raises KeyTaken when another task has got its deduplication key meanwhile.
    """
    rows = TaskLog.objects.filter(pk=task_id)
    with brief():
        keys.regain(task_id)  # before the row: calls that merge lock in this order
        locked = locked_keys(rows.filter(status=old))
        return bool(_revive(locked, old, actor, first=first))


def retry_all(rows: Any, old: Status, *, actor: Any = None) -> int:
    """The same for those of ``rows`` that are ``old``, which have no keys; return how many."""
    with brief():
        locked = locked_keys(rows.filter(status=old))
        return _revive(locked, old, actor)


def _revive(locked: list[int], old: Status, actor: Any, *, first: bool = False) -> int:
    archive(locked)
    values = {"at_front": True, "position": 0} if first else {}
    rows = TaskLog.objects.filter(pk__in=locked)
    columns = ("attempt", "batch_id")
    moved = _again(rows, old, columns=columns, **ASKED_FOR, **values)
    detail = "first in line" if first else ""
    record(moved, Kind.RETRIED, actor=actor, old=old, new=Status.PENDING, detail=detail)
    batches.reopen(task.batch_id for task in moved)
    return len(moved)


def _again(rows: Any, old: Status, **values: Any) -> list[TaskLog]:
    return _move(
        rows,
        old,
        Status.PENDING,
        **{
            "retry_count": F("retry_count") + 1,
            "ready_lane": ready_lane(),
            **CLEARED,
            **values,
        },
    )


def rescue(task_id: int, attempt: int, *, detail: str, occupied: bool = False) -> bool:
    """Started -> Pending: its process was lost, and it may run again.

    ``occupied`` says that the old body may still run; the next attempt then waits for it.
    """
    return _rerun(
        task_id,
        attempt,
        Kind.RESCUED,
        detail,
        occupied=occupied,
        lost_count=F("lost_count") + 1,
    )


def give_back(task_id: int, attempt: int, *, detail: str, occupied: bool = False) -> bool:
    """Started -> Pending, uncounted: its worker left in order before the end.

    ``occupied`` as in ``rescue``.
    """
    return _rerun(task_id, attempt, Kind.RETURNED, detail, occupied=occupied)


def _rerun(
    task_id: int, attempt: int, kind: Kind, detail: str, *, occupied: bool, **values: Any
) -> bool:
    rows = TaskLog.objects.filter(pk=task_id, attempt=attempt, status=Status.STARTED)
    with brief():
        locked = _free_ones(rows)
        archive(locked, ended_reason=detail)
        moved = _move(
            rows.filter(pk__in=locked),
            Status.STARTED,
            Status.PENDING,
            ready_lane=None if occupied else F("lane"),
            occupies=occupied,
            columns=("attempt",),
            **{**CLEARED, **values},
        )
        record(moved, kind, old=Status.STARTED, new=Status.PENDING, detail=detail)
    return bool(moved)


def unsend(
    attempts: Sequence[tuple[int, int]], *, detail: str, worker_id: int | None = None
) -> int:
    """Queued -> Pending: the broker did not take the messages, or lost them too often.

    A message that comes late after all claims nothing: the next attempt has another number.
    Leaves out the rows that somebody else is changing. What a worker claimed as it was sent
    is for that worker to give back, or for who knows that it is gone: ``worker_id``.
    """
    wanted = dict(attempts)
    rows = TaskLog.objects.filter(
        pk__in=wanted, status=Status.QUEUED, worker=worker_id
    ).order_by("pk")
    with brief():
        free = skip_locked(rows).values_list("pk", "attempt", *bounds(conf.DATABASE))
        moved = _move(
            TaskLog.objects.filter(pk__in=[pk for pk, n, *_ in free if n == wanted[pk]]),
            Status.QUEUED,
            Status.PENDING,
            ready_lane=F("lane"),
            occupies=False,
            queued_at=None,
            sent_at=None,
            celery_task_id=None,
            worker=None,
            columns=("attempt",),
        )
        record(moved, Kind.UNSENT, old=Status.QUEUED, new=Status.PENDING, detail=detail)
    return len(moved)


def release(task_id: int, attempt: int, **told: Any) -> bool:
    """Free the place of an attempt whose body is gone; no change of status.

    A retry that waited for it may now be promoted. ``told`` are columns that a body which
    went on behind its end has yet to tell.
    """
    lane = Case(
        When(status=Status.PENDING, then=F("lane")),
        default=None,
        output_field=models.BigIntegerField(),
    )
    rows = TaskLog.objects.filter(pk=task_id, attempt=attempt, occupies=True)
    values = {"occupies": False, "ready_lane": lane, "rev": F("rev") + 1, **told}
    with brief(savepoint=False, swift=True):
        freed: list[TaskLog] = update_returning(
            rows.exclude(status__in=(Status.QUEUED, Status.STARTED)),
            values,
            ("status", "attempt"),
        )
        # A body that was to go has gone; one that has finished just came to its end.
        record([task for task in freed if task.status != Status.FINISHED], Kind.GONE)
        poke_after_commit(freed)
    return bool(freed)


class Arrow(PreparedMove):
    """A move that is made so often that its UPDATE is compiled once."""

    def __init__(
        self, old: Status, new: Status, build: Any, columns: Sequence[str]
    ) -> None:
        def whole(p: Any) -> Any:
            rows, values = build(p)
            return rows.filter(status=old), _written(old, new, values)

        def unheard(p: Any) -> Any:
            rows, values = whole(p)
            return rows.filter(heard=False), values

        columns = ("rev", "heard", *columns)
        super().__init__(TaskLog, columns, whole)
        self.old, self.new = old, new
        #: The same for tasks whose changes are told to nobody.
        self.unheard = PreparedMove(TaskLog, columns, unheard)


def _announced(
    arrow: Arrow, given: dict[str, Any], *, error: str = "", alone: bool = True
) -> list[TaskLog]:
    """Make the move; announce it in its own transaction if anybody is to hear of it.

    Who that is stands in the row. Most are heard by nobody, so the move of one task
    (``alone``) is tried as such first, which then is the only statement.
    """
    if alone and not anyone_listens():
        moved = arrow.unheard.run(conf.DATABASE, given)
        if moved:
            poke_after_commit(moved)
            return moved
    with brief(savepoint=False, swift=True):
        moved = arrow.run(conf.DATABASE, given)
        announce(moved, arrow.old, arrow.new, error=error)
        poke_after_commit(moved)
        _before_commit(moved, arrow.new)
    return moved


def _move(
    rows: Any,
    old: Status,
    new: Status,
    *,
    columns: Sequence[str] = (),
    message: Any = None,
    **values: Any,
) -> list[TaskLog]:
    """Write ``new`` to those of ``rows`` that are ``old``; return them, announced."""
    with brief(savepoint=False, swift=True):
        moved: list[TaskLog] = update_returning(
            rows.filter(status=old), _written(old, new, values), ("rev", "heard", *columns)
        )
        announce(moved, old, new, message=message)
        poke_after_commit(moved)
        _before_commit(moved, new)
    return moved


def _before_commit(moved: Sequence[Any], new: Status) -> None:
    if moved:
        crashpoints.reached(f"moved.{new.lower()}")


def _written(old: Status, new: Status, values: dict[str, Any]) -> dict[str, Any]:
    if new not in MOVES[old]:
        raise ValueError(f"{old} -> {new} is not a move of status.MOVES")
    return {"status": new, "rev": F("rev") + 1, **values}


def _free_ones(rows: Any) -> list[int]:
    """Lock ``rows`` and return their keys, without those that somebody else is changing.

    A sweep that waited for a caller's open transaction would stop the dispatcher.
    """
    return free_keys(rows if rows.query.is_sliced else rows.order_by("pk"))
