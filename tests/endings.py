"""Sample tasks and callbacks about ends: in place, in one transaction, told, and killed."""

from __future__ import annotations

import os
import signal
from typing import Any

from django.db import connection, transaction

import taskcontrol
from taskcontrol.context import current_task, current_user
from taskcontrol.models import TaskLog
from tests.lab import RECORD
from tests.models import Counter
from tests.recording import STARTED, Record, record
from tests.waiting import eventually


def note(job: TaskLog) -> None:
    """Write down that a task ended, as a callback with little interest."""
    record(
        "told",
        job=job.pk,
        status=job.status,
        result=job.result,
        user=str(current_user()),
        inside=current_task() is not None or connection.in_atomic_block,
    )


def note_failure(job: TaskLog, exc_type: type, exc_value: str, traceback: str) -> None:
    """Write down why a task failed."""
    told = {"error": exc_type.__qualname__, "said": exc_value, "lines": len(traceback)}
    record("told", job=job.pk, status=job.status, attempt_told=job.attempt, **told)


def enqueue_more(job: TaskLog) -> None:
    """Enqueue another task, as a callback that takes long should."""
    taskcontrol.enqueue("tests.tasks.whoami", job_name=f"after {job.pk}")


def die_at_first(job: TaskLog) -> None:
    """Kill the process that calls it, once."""
    record("told", job=job.pk, pid_told=os.getpid())
    if not Counter.objects.filter(name="died").exists():
        Counter.objects.create(name="died")
        os.kill(os.getpid(), signal.SIGKILL)


def break_down() -> None:
    """Raise from a callback or a hook."""
    raise RuntimeError("the callback broke")


def before_job(method: str, kwargs: dict[str, Any], transaction_type: str) -> None:
    """Write down what is about to run."""
    record("before", method=method, kwargs=kwargs, transaction_type=transaction_type)


def after_job(method: str, kwargs: dict[str, Any], result: Any) -> None:
    """Write down what has run."""
    record("after", method=method, kwargs=kwargs, result=result)


def ask_in_place(times: int) -> int:
    """Ask to be run again at once for the first ``times`` runs; return the number of runs."""
    record(STARTED)
    task = current_task()
    assert task is not None
    counter, _ = Counter.objects.get_or_create(name=f"runs {task.id}")
    if counter.raise_by() <= times:
        raise taskcontrol.Retry
    return counter.value


def cross(first: int, then: int) -> int:
    """Lock two rows, the second when another task has locked it as its first."""
    record(STARTED)
    with transaction.atomic():
        Counter.objects.select_for_update().get(pk=first)
        record("locked", row=first)
        eventually(lambda: Record(RECORD).lines("locked", row=then))
        Counter.objects.select_for_update().get(pk=then).raise_by()
    return os.getpid()


def write_and_die_at_first() -> int:
    """Write a row, and be killed before the end of the first attempt."""
    Counter.objects.create(name="written")
    task = current_task()
    assert task is not None
    if task.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.attempt
