"""What becomes of a task whose process was lost, or whose worker left before its end."""

from __future__ import annotations

from . import lifecycle
from .bell import request_dispatch
from .conf import conf
from .exceptions import OutOfMemory, WorkerLeft, WorkerLost
from .models import OnLost, TaskLog, TaskType

#: What is said of a task whose process was lost.
LOST, OUT_OF_MEMORY = "its process was lost", "out of memory: the kernel killed its process"


def lose(row: TaskLog, where: str, *, for_memory: bool = False) -> bool:
    """Let a Started task whose process was lost run again, or fail it; return if it moved.

    ``for_memory`` says that the kernel killed it because memory was short.
    """
    times = row.lost_count + 1
    kind, reason = (OutOfMemory, OUT_OF_MEMORY) if for_memory else (WorkerLost, LOST)
    if _may_begin_again(row) and times <= conf.LOST_LIMIT:
        moved = lifecycle.rescue(row.pk, row.attempt, detail=f"{reason} ({where})")
    else:
        error = kind(where, times, conf.LOST_LIMIT)
        moved = lifecycle.fail(
            row.pk,
            row.attempt,
            error=f"{kind.__name__}: {error}",
            reason=reason,
            lost_count=times,
        )
    request_dispatch()
    return moved


def give_back(row: TaskLog, why: str, *, occupied: bool = False) -> bool:
    """Let a Started task whose worker left run again, uncounted; return if it moved.

    It fails if it must not begin a second time. ``occupied`` says that the body may still
    run, and holds its place.
    """
    if _may_begin_again(row):
        moved = lifecycle.give_back(row.pk, row.attempt, detail=why, occupied=occupied)
    else:
        error = f"{WorkerLeft.__name__}: {WorkerLeft(why)}"
        moved = lifecycle.fail(
            row.pk, row.attempt, error=error, reason=why, body_gone=not occupied
        )
    request_dispatch()
    return moved


def give_back_by_key(task_id: int, attempt: int) -> None:
    """Do so because its worker was shut down; its body was told to go, and may take its time."""
    row = TaskLog.objects.filter(pk=task_id, attempt=attempt).first()
    if row is not None:
        give_back(row, "its worker was shut down", occupied=True)


def _may_begin_again(row: TaskLog) -> bool:
    own = row.options.get("on_lost")
    if own:
        return bool(own == OnLost.RERUN)
    kinds = TaskType.objects.filter(method=row.method).values_list("on_lost", flat=True)
    return bool((kinds.first() or OnLost.RERUN) == OnLost.RERUN)
