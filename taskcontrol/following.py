"""Tasks that come after another one: lets them go when that one has ended, however it did."""

from __future__ import annotations

from typing import Any

from django.db.models import F

from .conf import conf
from .dialect import free_keys, predecessors
from .exceptions import TaskNotFound
from .lanes import ready_lane
from .models import TaskLog
from .status import Status

#: Tasks that others wait for, of which one pass looks after this many: the oldest, which
#: mostly end first, and as many of the others in turn.
PAGE = 200


def followers() -> Any:
    """Return the tasks that wait for the end of another."""
    return TaskLog.objects.filter(status=Status.PENDING, after__isnull=False)


def let_go() -> int:
    """Put the tasks whose predecessor is over into their lanes; return how many.

    Called in each pass while there are any, so that no end and no crash between can leave
    one behind, and nobody has to lock or even know the task that he comes after.
    """
    over = _over()
    if not over:
        return 0
    due = followers().filter(after_id__in=over).order_by("pk")
    ids = free_keys(due[: conf.DISPATCH_PAGE * 10])
    free = TaskLog.objects.filter(pk__in=ids, status=Status.PENDING)
    return free.update(after=None, ready_lane=ready_lane(followed=True), rev=F("rev") + 1)


def key_of(task: TaskLog | str | int) -> str:
    """Return the name of a task that was given as its row, its name or its key."""
    return str(task.pk if isinstance(task, TaskLog) else task)


def predecessor(name: str) -> int | None:
    """Return the key of a task while it is to be waited for, None when it is over.

    Locks nothing: a task that ends in this moment is found over by the next pass. Raises
    TaskNotFound (a LookupError) when there is none.
    """
    if not (name.isascii() and name.isdecimal()):
        raise TaskNotFound(name)
    columns = ("ended_at", "retry_at", "occupies")
    row = TaskLog.objects.filter(pk=name).only(*columns).first()
    if row is None:
        raise TaskNotFound(name)
    return None if is_over(row) else row.pk


def is_over(task: TaskLog) -> bool:
    """Return whether a task has ended, and its body too."""
    ended = task.ended_at is not None and task.retry_at is None
    return ended and not task.occupies


def _over() -> list[int]:
    looked_at = _look(past=0)
    if len(looked_at) == PAGE:
        further = _look(past=max(_round.past, looked_at[-1][0]))
        _round.past = further[-1][0] if len(further) == PAGE else 0
        looked_at += further
    return [task_id for task_id, over in looked_at if over]


def _look(*, past: int) -> list[tuple[int, bool]]:
    tasks = TaskLog._meta.db_table
    return predecessors(conf.DATABASE, tasks, past=past, count=PAGE)


class _Round:
    """How far this process has come in looking after all of them."""

    past = 0


_round = _Round()
