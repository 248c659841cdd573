"""Writes the end of an attempt, whatever became of its body and of the database."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from celery.exceptions import Ignore
from django.db import (
    DataError,
    Error as DatabaseError,
    IntegrityError,
    connections,
)

from . import crashpoints, incidents, interrupts, leftovers, lifecycle, losses, memory
from .conf import conf
from .failures import failure_of, forced_timeout
from .models import TaskEvent, TaskLog
from .status import TERMINAL
from .text import storable

if TYPE_CHECKING:
    pass

logger = logging.getLogger("taskcontrol")

#: Pauses in seconds between tries to write an end to a database that does not answer.
END_PAUSES = (0.1, 0.3, 1, 2, 4, 8)


@dataclass
class Outcome:
    """How a body ended."""

    #: What it returned.
    value: Any = None
    #: What it raised.
    error: BaseException | None = None
    #: Whether it came to the hooks before the body.
    begun: bool = False
    #: Columns that the end writes whatever it is.
    measures: dict[str, Any] = field(default_factory=dict)
    #: Whether the end was committed, together with what the body wrote.
    committed: bool = False

    #: The same, by a fenced block of the body, which then went on.
    fenced: bool = False
    #: Whether the database took the end, or refused it: somebody else had ended the attempt.
    written: bool = False

    def mark_committed(self) -> None:
        """Note that the transaction of body and end was committed."""
        self.committed = True


class EndKind(StrEnum):
    """How a run of a body is over."""

    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"
    GIVEN_BACK = "given back"


class End(NamedTuple):
    """An end as plain values: another process may write it."""

    kind: EndKind
    told: dict[str, Any]


def measures_of(
    began: float, debug_log: str, progress: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the columns that an end writes whatever it is, of a body that is over.

    ``began``: when, by ``time.monotonic()``.
    """
    measures = {
        "time_taken": timedelta(seconds=time.monotonic() - began),
        "peak_memory_usage": memory.peak_kb(),
        "debug_log": debug_log,
    }
    return measures if progress is None else {**measures, "progress": progress}


def write_end(row: TaskLog, outcome: Outcome) -> bool:
    """Write the end of an attempt, on a fresh connection if the body broke its own.

    False when the attempt was canceled or given up on meanwhile: then only its place is
    freed, since the body is gone now.
    """
    leftovers.roll_back_what_is_open()
    if not outcome.committed and not _persistently(
        partial(write, row, end_of(row, outcome))
    ):
        crashpoints.reached("end.refused")
        _persistently(lambda: take_refusal(row))
        return False
    return True


def take_refusal(row: TaskLog, *, detail: str = "") -> bool:
    """Free the place of a body whose end was refused, or report that it was given up on."""
    return lifecycle.release(row.pk, row.attempt, detail=detail) or _report_zombie(row)


def _report_zombie(row: TaskLog) -> bool:
    """Write down that an attempt came to its end although it had been given up on.

    Not if it ended itself, on a connection that broke before it heard so, or was canceled,
    or if its worker, which gave it back as it left, has seen it go.
    """
    gone = TaskEvent.objects.filter(task=row.pk, attempt=row.attempt)
    if gone.filter(kind=TaskEvent.Kind.GONE).exists():
        return False
    now = TaskLog.objects.filter(pk=row.pk).only("status", "attempt", "lost_count").first()
    if now and now.status in TERMINAL and _of_same_run(now) == _of_same_run(row):
        return False
    stands = f"{now.status} with attempt {now.attempt}" if now else "gone"
    incidents.report(
        incidents.Kind.ZOMBIE,
        f"Attempt {row.attempt} of task {row.pk} came to its end in process {row.pid} after it "
        f"had been given up on: the task is {stands}.",
        task_id=row.pk,
        attempt=row.attempt,
        key="end",
        worker=row.worker_id,
        repair="its end was refused",
        over=True,
    )
    return True


def _of_same_run(row: TaskLog) -> tuple[int, int]:
    return row.attempt, row.lost_count


def tell_the_rest(row: TaskLog, outcome: Outcome) -> None:
    """Add to an end that a block has committed what the body returned and printed since.

    With it the place is given up, which the body has held until now.
    """
    told = {"result": as_result(outcome.value), **outcome.measures}
    _persistently(lambda: lifecycle.release(row.pk, row.attempt, **told))


def finish(row: TaskLog, outcome: Outcome, *, body_gone: bool = True) -> bool:
    """Started -> Finished, with what the body returned."""
    told = _told_of_finished(outcome)
    return lifecycle.finish(row.pk, row.attempt, body_gone=body_gone, **told)


def _told_of_finished(outcome: Outcome) -> dict[str, Any]:
    return {"result": as_result(outcome.value), **outcome.measures}


def write(row: TaskLog, end: End) -> bool:
    """Write an end once; False when the attempt was canceled or given up on meanwhile."""
    match end.kind:
        case EndKind.FINISHED:
            return lifecycle.finish(row.pk, row.attempt, **end.told)
        case EndKind.FAILED:
            return lifecycle.fail(row.pk, row.attempt, **end.told)
        case EndKind.GIVEN_BACK:
            return losses.give_back(row, **end.told)
    return losses.lose(row, **end.told)


def end_of(row: TaskLog, outcome: Outcome) -> End:
    """Return what is to be written of a body that is over."""
    error = outcome.error
    if error is None or isinstance(error, Ignore):
        return End(EndKind.FINISHED, _told_of_finished(outcome))
    if interrupts.process_must_go():
        return _end_of_forced(row, outcome)
    return End(EndKind.FAILED, {**failure_of(row, error), **outcome.measures})


def _end_of_forced(row: TaskLog, outcome: Outcome) -> End:
    """The process is being ended: at the hard time limit, with its worker, or by somebody.

    That may be the body itself, or who watches over memory: then it is a loss as any other.
    """
    if _ran_for(outcome) >= row.timeout:
        return End(EndKind.FAILED, {**forced_timeout(row), **outcome.measures})
    if interrupts.worker_leaves():
        return End(EndKind.GIVEN_BACK, {"why": "its worker was shut down"})
    where = f"process {row.pid}: it was told to end (SIGTERM), and its worker stays"
    return End(EndKind.LOST, {"where": where})


def _ran_for(outcome: Outcome) -> float:
    return float(outcome.measures.get("time_taken", timedelta()).total_seconds())


def as_result(value: Any) -> Any:
    """Return a body's value if it is JSON and small, else None."""
    if value is None:
        return None
    try:
        text = json.dumps(value, allow_nan=False)
        plain = json.loads(text)
    except Exception:  # noqa: BLE001 - a value that is no JSON is no error
        return None
    return plain if len(text) <= conf.RESULT_MAX_BYTES and storable(plain) else None


def may_pass(error: BaseException) -> bool:
    """Return whether the database may yet take an end that it has refused by ``error``.

    It may be back, and on a new session, unless the values of the end are to blame.
    """
    return isinstance(error, DatabaseError) and not isinstance(
        error, DataError | IntegrityError
    )


def _persistently(write: Callable[[], bool]) -> bool:
    """Write to the database even if it restarts meanwhile; gives up after some seconds.

    A session that the body has closed, made read-only or otherwise spoilt says so in errors of
    almost every class; a new one heals what no value is to blame for. What is no error of a
    database is the driver's, or ours: that is tried once more.
    """
    once_more = True
    for pause in END_PAUSES:
        try:
            return write()
        except Exception as error:
            of_the_database = isinstance(error, DatabaseError)
            if not (may_pass(error) if of_the_database else once_more):
                raise
            once_more &= of_the_database
            logger.warning("The database did not take an end, trying again: %s", error)
            leftovers.close(connections[conf.DATABASE])
            time.sleep(pause)
    return write()


def told_of(outcome: Outcome) -> tuple[Any, ...]:
    """Return what the end of a body that returned tells, in the order of ``lifecycle.Ran``."""
    measures = outcome.measures
    return (
        measures["time_taken"].total_seconds(),
        measures["peak_memory_usage"],
        measures["debug_log"],
        as_result(outcome.value),
        measures.get("progress"),
    )
