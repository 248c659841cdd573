"""The claim between ``task_prerun`` and the body: made by the first, or else by the second."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import execution, held
from .models import TaskLog

_CLAIM = "taskcontrol_claim"
_ENDED = "taskcontrol_ended"


def make(request: Any, task_id: int, attempt: int) -> None:
    """Claim, and leave the answer on the request: a signal cannot stop the task itself."""
    held.begin_here(task_id, attempt)
    setattr(request, _CLAIM, execution.claim(task_id, attempt))


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


def mark_ended(request: Any) -> None:
    """Note that the end is written, so that no later signal tries again."""
    setattr(request, _ENDED, True)
