"""Runs one attempt of one task in a worker: claim, body, measures, end."""

from __future__ import annotations

import json
import logging
import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from celery.exceptions import Ignore, SoftTimeLimitExceeded
from django.contrib.auth import get_user_model
from django.db import (
    Error as DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    close_old_connections,
    connections,
)

from . import bell, interrupts, lifecycle, memory, tasktypes
from .arguments import decode
from .celerytasks import RetryAsked, call
from .conf import conf
from .context import running
from .exceptions import (
    Discard,
    MethodNotAllowed,
    MethodNotFound,
    Retry,
    TaskCanceled,
    TimedOut,
)
from .models import TaskLog
from .output import captured
from .progress import Reporter
from .registry import resolve
from .retries import delay_before_retry
from .side import side_database
from .status import Status
from .text import clean, describe, storable

logger = logging.getLogger("taskcontrol")

#: Pauses in seconds between tries to write an end to a database that does not answer.
END_PAUSES = (0.1, 0.3, 1, 2, 4, 8)


class CurrentTask:
    """The running task, as its body sees it: ``taskcontrol.current_task()``."""

    def __init__(self, row: TaskLog) -> None:
        self.row = row
        self.id: int = row.pk
        self.name: str = row.name
        self.attempt: int = row.attempt
        self._reporter = Reporter(row.pk, row.attempt)
        self._user: Any = None

    @property
    def user(self) -> Any:
        """The user as whom the task runs, read when first asked for; None for the system."""
        if self._user is None and self.row.created_by_id is not None:
            self._user = get_user_model()._default_manager.get(pk=self.row.created_by_id)
        return self._user

    @property
    def idempotency_key(self) -> str:
        """A text that is the same in every attempt of this task, for outside systems."""
        return f"taskcontrol-{self.id}"

    def check_canceled(self) -> None:
        """Raise TaskCanceled when this task was canceled or this attempt given up on.

        The way to stop a body on threads and solo pools; harmless on prefork.
        """
        rows = TaskLog.objects.using(side_database())
        if not rows.filter(
            pk=self.id, attempt=self.attempt, status=Status.STARTED
        ).exists():
            raise TaskCanceled

    def report(self, message: Any) -> None:
        """Say how far the task is; see ``taskcontrol.notify_task_status``."""
        self._reporter.report(message)

    @property
    def progress(self) -> dict[str, Any] | None:
        """The last progress that was said."""
        return self._reporter.latest


@dataclass
class Outcome:
    """How a body ended."""

    #: What it returned.
    value: Any = None
    #: What it raised.
    error: BaseException | None = None
    #: Columns that the end writes whatever it is.
    measures: dict[str, Any] = field(default_factory=dict)


def run(task_id: int, attempt: int) -> bool:
    """Claim an attempt and run it to its end; False when there was nothing to run."""
    row = claim(task_id, attempt)
    return row is not None and run_claimed(row)


def claim(task_id: int, attempt: int) -> TaskLog | None:
    """Claim an attempt for this process; None when it is not, or no more, to be run.

    A message may come twice, late, or after a cancel: who does not win does not run.
    """
    close_old_connections()
    if here.in_worker and here.worker_id is None:
        # Nobody would rescue what a worker runs that has no row.
        logger.warning("Task %s is left to others: this worker is not registered.", task_id)
        return None
    return lifecycle.claim(task_id, attempt, worker_id=here.worker_id, pid=os.getpid())


def run_claimed(row: TaskLog) -> bool:
    """Run a claimed attempt and write its end; return whether the end was written."""
    try:
        outcome = _run_body(row)
        written = write_end(row, outcome)
    finally:
        interrupts.forget()
        close_old_connections()
        bell.ring()
    if interrupts.process_must_go():
        raise SystemExit  # again: the body may have swallowed it
    return written


class Here:
    """Which worker this process belongs to; set in its main process, read in its pool.

    In memory that they share, since the pool forks before the worker has its row.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 8)
        #: Whether this process belongs to a worker, registered or not.
        self.in_worker = False

    @property
    def worker_id(self) -> int | None:
        """The key of the worker's row; None outside of workers."""
        return int.from_bytes(self._shared[:], "big") or None

    @worker_id.setter
    def worker_id(self, key: int) -> None:
        self._shared[:] = key.to_bytes(8, "big")


here = Here()


def _run_body(row: TaskLog) -> Outcome:
    task = CurrentTask(row)
    outcome = Outcome()
    memory.reset_peak()
    began = time.monotonic()
    with captured() as output, running(task):
        try:
            with interrupts.allowed(row):
                outcome.value = _call(row)
        except BaseException as error:  # noqa: BLE001 - nothing that a body throws may harm a worker
            outcome.error = error
    outcome.measures = {
        "time_taken": timedelta(seconds=time.monotonic() - began),
        "peak_memory_usage": memory.peak_kb(),
        "debug_log": output.text(),
    }
    if task.progress is not None:
        outcome.measures["progress"] = task.progress
    return outcome


def _confirm_type(method: str) -> None:
    """A database that drops the connection here must not fail a body that never began."""
    try:
        tasktypes.confirm(method)
    except (OperationalError, InterfaceError) as error:
        logger.warning(
            "The type %s was not confirmed, the next task does it: %s", method, error
        )
        connections[conf.DATABASE].close()


def _call(row: TaskLog) -> Any:
    target = resolve(row.method)
    _confirm_type(row.method)
    return call(target, decode(row.arguments), row)


def write_end(row: TaskLog, outcome: Outcome) -> bool:
    """Write the end of an attempt, on a fresh connection if the body broke its own.

    False when the attempt was canceled or given up on meanwhile: then only its place is
    freed, since the body is gone now.
    """
    _drop_open_transactions()
    if _persistently(_end_of(row, outcome)):
        return True
    _persistently(lambda: lifecycle.release(row.pk, row.attempt))
    return False


def _end_of(row: TaskLog, outcome: Outcome) -> Callable[[], bool]:
    error = outcome.error
    if error is None or isinstance(error, Ignore):
        result = _as_result(outcome.value)
        return lambda: lifecycle.finish(
            row.pk, row.attempt, result=result, **outcome.measures
        )
    if interrupts.process_must_go():
        return _end_of_forced(row, outcome)
    failure = _failure(row, error)
    return lambda: lifecycle.fail(row.pk, row.attempt, **failure, **outcome.measures)


def _end_of_forced(row: TaskLog, outcome: Outcome) -> Callable[[], bool]:
    """The process is being ended from outside: at the hard time limit, or with its worker."""
    if _ran_for(outcome) >= row.timeout:
        failure = {**forced_timeout(row), **outcome.measures}
        return lambda: lifecycle.fail(row.pk, row.attempt, **failure)
    return lambda: lifecycle.give_back(row.pk, row.attempt, detail="worker left")


def _ran_for(outcome: Outcome) -> float:
    return float(outcome.measures.get("time_taken", timedelta()).total_seconds())


def forced_timeout(row: TaskLog) -> dict[str, Any]:
    """Return the failure of an attempt whose process is ended at the hard time limit."""
    error = TimedOut(row.timeout)
    return {
        "error": f"TimedOut: {error} It did not stop when asked and was ended by force.",
        "reason": "timed out",
        "retry_in": delay_before_retry(row),
    }


def _failure(row: TaskLog, error: BaseException) -> dict[str, Any]:
    """Decide what an exception means: what is written, and when the next attempt is due."""
    retry_in: float | None = delay_before_retry(row)
    only_when_asked = row.options.get("retry_when_asked") and not isinstance(error, Retry)
    written: dict[str, Any] = {"error": describe(error)}
    match error:
        case TaskCanceled():
            # The row is Canceled or on its next attempt already, and this is not written,
            # unless a body raised it by itself.
            written["reason"], retry_in = "stopped", None
        case SoftTimeLimitExceeded():
            written["error"] += f"\n{TimedOut.__name__}: {TimedOut(row.timeout)}"
            written["reason"] = "timed out"
        case Discard():
            written["reason"], retry_in = f"discarded: {error}", None
        case RetryAsked():
            changed = {} if error.arguments is None else {"arguments": error.arguments}
            written = {"error": describe(error.cause or error), **changed}
            retry_in = error.delay
        case Retry(delay=float() | int() as delay):
            retry_in = delay
        case MethodNotFound() | MethodNotAllowed():
            # Where it was looked for tells nothing; the sentence does.
            text = f"{type(error).__name__}: {error}"
            written["error"] = clean(text, conf.ERROR_MAX_CHARS)
            known = isinstance(error, MethodNotAllowed)
            written["reason"] = "not allowed in this worker" if known else "unknown method"
        case _ if only_when_asked:
            retry_in = None
    return {**written, "retry_in": retry_in}


def _as_result(value: Any) -> Any:
    """Return a body's value if it is JSON and small, else None."""
    if value is None:
        return None
    try:
        text = json.dumps(value, allow_nan=False)
        plain = json.loads(text)
    except Exception:  # noqa: BLE001 - a value that is no JSON is no error
        return None
    return plain if len(text) <= conf.RESULT_MAX_BYTES and storable(plain) else None


def _drop_open_transactions() -> None:
    """A transaction that the body left open, or broke, must not swallow the end."""
    for connection in connections.all(initialized_only=True):
        left_open = connection.in_atomic_block or connection.needs_rollback
        if left_open or not connection.autocommit:
            # Within an atomic block Django only notes that it is to be closed.
            connection.in_atomic_block = connection.closed_in_transaction = False
            _close(connection)


def _close(connection: Any) -> None:
    """Some drivers refuse to close what the body closed; Django forgets it all the same."""
    with suppress(DatabaseError):
        connection.close()


def _persistently(write: Callable[[], bool]) -> bool:
    """Write to the database even if it restarts meanwhile; gives up after some seconds."""
    for pause in END_PAUSES:
        try:
            return write()
        except (OperationalError, InterfaceError, ProgrammingError) as error:
            # A ProgrammingError is SQLite's word for a connection that the body closed.
            logger.warning("The database did not take an end, trying again: %s", error)
            _close(connections[conf.DATABASE])
            time.sleep(pause)
    return write()
