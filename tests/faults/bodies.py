"""What runs in the laboratory while everything is broken."""

from __future__ import annotations

import time

from django.db.models import F

from taskcontrol.context import current_task
from tests.faults.company import in_company
from tests.models import Counter
from tests.recording import ENDED, STARTED, record


def quick(tag: str) -> str:
    """Take no time."""
    return _run("quick", tag, 0)


def slow(tag: str) -> str:
    """Take long enough to be hit."""
    return _run("slow", tag, 0.7)


def alone(tag: str) -> str:
    """Run alone: its type has a limit of one."""
    return _run("alone", tag, 0.1)


def few(tag: str) -> str:
    """Run beside two others: its type has a limit of three, which is changed live."""
    return _run("few", tag, 0.2)


def fails_twice(tag: str) -> str:
    """Fail until it was retried twice."""
    task = current_task()
    assert task is not None
    if task.row.retry_count < 2:
        _run("fails_twice", tag, 0)
        raise ValueError("not yet")
    return _run("fails_twice", tag, 0)


def fails_always(tag: str) -> str:
    """Fail each time."""
    _run("fails_always", tag, 0)
    raise ValueError("never")


def _run(kind: str, tag: str, seconds: float) -> str:
    with in_company(kind) as company:
        record(STARTED, kind=kind, tag=tag, company=company)
        time.sleep(seconds)
        record(ENDED, kind=kind, tag=tag)
    return tag


def count(tag: str, fenced: str, unfenced: str) -> str:
    """Raise one counter beside the fence and one within it."""
    task = current_task()
    assert task is not None
    record(STARTED, kind="count", tag=tag)
    _raise(unfenced)
    time.sleep(0.15)
    with task.fenced():
        _raise(fenced)
    time.sleep(0.25)  # whoever dies here must not run again
    return tag


def _raise(name: str) -> None:
    Counter.objects.filter(name=name).update(value=F("value") + 1)


def member(tag: str, *, bad: bool = False, again: bool = False) -> str:
    """Be one of a batch; a bad one fails, and one that is to run again does so once."""
    task = current_task()
    assert task is not None
    _run("member", tag, 0.02)
    if bad or (again and not task.row.retry_count):
        raise ValueError("bad" if bad else "not yet")
    if again:
        record("retried", tag=tag)
    return tag


def batch_over(batch_id: str) -> None:
    """Write down that a batch has ended."""
    record("over", batch=batch_id)
