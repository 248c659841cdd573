"""A claim on its way from ``task_prerun`` to the body, and the end back to the last signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import ends, execution, held
from .models import TaskLog

_CLAIM = "taskcontrol_claim"
_ASKED = "taskcontrol_asked"
_OUTCOME = "taskcontrol_outcome"
_ENDED = "taskcontrol_ended"


def make(request: Any, task_id: int, attempt: int) -> None:
    """Claim, and leave the answer on the request: a signal cannot stop the task itself."""
    held.begin_here(task_id, attempt)
    again = hasattr(request, _ASKED)
    setattr(request, _ASKED, True)
    setattr(request, _CLAIM, execution.claim(task_id, attempt, again=again))


@contextmanager
def of(request: Any, task_id: int, attempt: int) -> Iterator[TaskLog | None]:
    """Give the claimed row to the block, or None when there is nothing to run.

    Claims now if the receiver did not run or failed. A block that ends without an error
    has written the end.
    """
    if not hasattr(request, _CLAIM):
        make(request, task_id, attempt)
    yield getattr(request, _CLAIM)
    setattr(request, _ENDED, True)


def unfinished(request: Any) -> TaskLog | None:
    """Return the claimed row whose end was not written, or None."""
    if getattr(request, _ENDED, False):
        return None
    row: TaskLog | None = getattr(request, _CLAIM, None)
    return row


def keep(request: Any, outcome: ends.Outcome) -> None:
    """Leave on the request how the body ended, for whoever has to write it later."""
    setattr(request, _OUTCOME, outcome)


def write_missing_end(request: Any, otherwise: ends.Outcome) -> None:
    """Write the end that is still missing: the body's own, if it came to one.

    Else, or when that one cannot be stored, ``otherwise``, which Celery tells. While the
    database is away the body's own stays to be written by the next signal.
    """
    row = unfinished(request)
    if row is None:
        return
    own = getattr(request, _OUTCOME, otherwise)
    try:
        ends.write_end(row, own)
    except Exception as error:
        if own is otherwise or ends.may_pass(error):
            raise
        ends.write_end(row, otherwise)
    setattr(request, _ENDED, True)
