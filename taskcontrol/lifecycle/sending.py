"""Pending -> Queued, by message or for a worker's own children; and back, what did not go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import models
from django.db.models import Exists, F, Value
from django.db.models.functions import Cast, Concat

from ..announcing import announce
from ..brief import bounds, brief
from ..conf import conf
from ..dialect import DatabaseNow, skip_locked, unless_locked
from ..history import record
from ..models import TaskEvent, TaskLog, Worker
from ..pokes import poke_after_commit
from ..prepared import padded
from ..status import Status
from .arrows import Arrow, announced, before_commit, move
from .claiming import CLAIMED


def promote(ids: Sequence[int], *, site: str) -> list[TaskLog]:
    """Pending -> Queued: give each task its next attempt and its message's id.

    Leaves out the rows that somebody else is changing.
    """
    if not ids:
        return []
    size, given = padded(ids)
    return announced(_promote(size), {**given, "site": f"{site}-"}, alone=False)


def promote_and_claim(ids: Sequence[int], *, site: str, worker_id: int) -> list[Card]:
    """Pending -> Queued, and claimed by a worker, whose own children will run them.

    No other may begin them, and that it has given one back is for the worker alone to say.
    Leaves out the rows that somebody else is changing.
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
        before_commit(moved, arrow.new)
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
        free = unless_locked(rows.filter(status=Status.PENDING))
        number = Cast(F("attempt") + 1, models.CharField())
        prefix = Cast(p("site", "celery_task_id"), models.CharField())
        return free, {
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
        moved = move(
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
        record(
            moved,
            TaskEvent.Kind.UNSENT,
            old=Status.QUEUED,
            new=Status.PENDING,
            detail=detail,
        )
    return len(moved)
