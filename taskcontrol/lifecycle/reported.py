"""Begins and ends of what a worker claimed as it was sent: written when it tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from django.db import connections
from django.db.models import F
from django.db.models.functions import Greatest

from ..announcing import announce
from ..brief import brief
from ..conf import conf
from ..dialect import DatabaseNow
from ..models import TaskLog
from ..pokes import poke_after_commit
from ..status import Status
from .arrows import Arrow, announced, before_commit
from .grouped import Ran, finish_many, time_to_count_back


def begin(
    task_id: int, attempt: int, *, worker_id: int | None, pid: int, since: float
) -> bool:
    """Queued -> Started for an attempt that its worker claimed as it was sent.

    The body runs ``since`` then by the monotonic clock. False when somebody canceled it, or
    gave it up.
    """
    passed = max(time_to_count_back() - since, 0.0)
    given = {
        "id": task_id,
        "attempt": attempt,
        "worker": worker_id,
        "pid": pid,
        "began": timedelta(seconds=passed),
    }
    return bool(announced(_begin(), given))


@cache
def _begin() -> Arrow:
    def build(p: Any) -> Any:
        return _claimed_rows(p), {"started_at": _ago(p, "began"), "pid": p("pid", "pid")}

    return Arrow(Status.QUEUED, Status.STARTED, build, ())


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
            before_commit(tasks, Status.FINISHED)
    return {task.pk for tasks in moved.values() for task in tasks}


def _finish_one_by_one(ran: Sequence[Ran], worker_id: int | None) -> dict[str, list[Any]]:
    moved: dict[str, list[Any]] = {Status.QUEUED: [], Status.STARTED: []}
    for one in sorted(ran, key=lambda one: one.task_id):
        told = one.told()
        # For each anew: what those before it took has passed by the database's clock too.
        began, ended = one.passed(time_to_count_back())
        given = {
            "id": one.task_id,
            "attempt": one.attempt,
            "worker": worker_id,
            "pid": one.pid,
            "began": timedelta(seconds=began),
            "ended": timedelta(seconds=ended),
            **told,
        }
        for old in (Status.QUEUED, Status.STARTED):
            arrow = _finished(old, tuple(told))
            moved[old] += arrow.unheard.run(conf.DATABASE, given)
    return moved


@cache
def _finished(old: Status, told: tuple[str, ...]) -> Arrow:
    def build(p: Any) -> Any:
        begun = {"started_at": _ago(p, "began"), "pid": p("pid", "pid")}
        # A begin that was written before may have come out later than this end.
        begins = "queued_at" if old is Status.QUEUED else "started_at"
        return _claimed_rows(p), {
            **(begun if old is Status.QUEUED else {}),
            "ended_at": _ago(p, "ended", but_not_before=begins),
            "occupies": False,
            **{name: p(name, name) for name in told},
        }

    return Arrow(old, Status.FINISHED, build, ())


def _claimed_rows(p: Any) -> Any:
    return TaskLog.objects.filter(
        pk=p("id", "id"), attempt=p("attempt", "attempt"), worker=p("worker", "worker")
    )


def _ago(p: Any, name: str, *, but_not_before: str = "queued_at") -> Any:
    """Return the time so long ago, but not before that of a column."""
    return Greatest(F(but_not_before), DatabaseNow() - p(name, "time_taken"))
