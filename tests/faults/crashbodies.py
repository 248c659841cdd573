"""Bodies and callbacks of the tests of crash points."""

from __future__ import annotations

import time
from contextlib import suppress

from django.db.models import F

import taskcontrol
from taskcontrol.models import TaskLog
from tests.models import Counter
from tests.recording import STARTED, record


def told(job: TaskLog) -> None:
    """Write down which task it was called for."""
    record("told", about=job.pk)


def short() -> None:
    """Take no time."""
    record(STARTED)


def naps() -> None:
    """Take as long as several of its type may be given at once."""
    record(STARTED)
    time.sleep(0.05)


def lingers() -> None:
    """Take some time in the first attempt."""
    record(STARTED)
    task = taskcontrol.current_task()
    if task is not None and task.attempt == 1:
        time.sleep(20)


def count(name: str) -> None:
    """Raise a counter; its transaction says whether that stays."""
    record(STARTED)
    Counter.objects.filter(name=name).update(value=F("value") + 1)


def count_fenced(name: str) -> None:
    """Raise it in a block that is committed together with the end."""
    task = taskcontrol.current_task()
    assert task is not None
    with task.fenced():
        count(name)


def count_held(name: str) -> None:
    """Raise it in a block that is committed while this attempt holds the task."""
    task = taskcontrol.current_task()
    assert task is not None
    with task.held():
        count(name)


def fail() -> None:
    """Fail for good."""
    record(STARTED)
    raise ValueError("as asked")


def stubborn_at_first() -> None:
    """Stop for nobody in the first attempt, and take no time in others."""
    record(STARTED)
    task = taskcontrol.current_task()
    assert task is not None
    until = time.monotonic() + (60 if task.attempt == 1 else 0)
    while time.monotonic() < until:
        with suppress(BaseException):
            time.sleep(0.05)
