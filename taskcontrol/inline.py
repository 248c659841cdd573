"""Runs a task at once, in the process that enqueues it: ``now=True``."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

from celery.exceptions import Ignore, SoftTimeLimitExceeded
from django.db import DatabaseError, connections, transaction

from . import hooks, leftovers, lifecycle, memory, sessions, side
from .arguments import decode
from .bell import request_dispatch
from .celerytasks import call
from .conf import conf
from .context import running
from .currenttask import CurrentTask
from .ends import Outcome, finish, measures_of, tell_the_rest
from .failures import failure_of
from .fencing import fence, in_one_transaction, past_the_fence
from .lookup import read_again
from .models import TaskLog
from .output import Capture, captured
from .suspension import dispatcher_state
from .targets import target_of_row

logger = logging.getLogger("taskcontrol")


def begin(row: TaskLog) -> None:
    """Move a task that was just inserted to Started, as a dispatcher and a worker would.

    Call it in the transaction of the INSERT: nobody else then sees it wait.
    """
    (sent,) = lifecycle.promote([row.pk], site=dispatcher_state().site)
    lifecycle.claim(row.pk, sent.attempt, worker_id=None, pid=os.getpid())
    row.refresh_from_db()


def run(row: TaskLog) -> TaskLog:
    """Run the body of a task that has begun here; return its row, ended.

    What the body raises is raised to the caller, after it was written. Of a task that was
    canceled meanwhile the row is returned.
    """
    body = _Body(row)
    with side.none() if body.within else nullcontext():
        body.run()
        written = _write_end(row, body.outcome)
        body.call_hooks()
    request_dispatch()
    error = body.outcome.error
    if error is not None and written and not isinstance(error, Ignore):
        raise error
    read_again(row)
    return row


class _Body:
    """One run of a function in the caller's process, measured."""

    def __init__(self, row: TaskLog) -> None:
        self.row, self.task, self.outcome = row, CurrentTask(row), Outcome()
        #: Whether the caller has a transaction open, of which all of this is a part.
        self.within = bool(connections[conf.DATABASE].in_atomic_block)
        self.output = Capture()
        self._began = time.monotonic()
        self.before = leftovers.standing()
        if self.within:
            # All of it is a part of the caller's transaction, and so is the end.
            self.task.end_with = lambda: transaction.atomic(using=conf.DATABASE)
        else:
            fence(row, self.task, self.outcome, self._measure)

    def run(self) -> None:
        """Run it; whatever it raises is kept."""
        memory.reset_peak()
        with captured() as self.output, running(self.task), closing(self.task):
            try:
                with (
                    past_the_fence(self.row, self.outcome),
                    _time_limit(self.row.timeout),
                    self._transaction(),
                ):
                    self.outcome.value = self._call()
                    self._refuse_what_is_open()
            except BaseException as error:  # noqa: BLE001 - raised when its end is written
                self.outcome.error = error
        leftovers.roll_back_what_is_open(self.before)
        if self.outcome.fenced:
            self._measure()
            tell_the_rest(self.row, self.outcome)
        elif not self.outcome.committed:
            self._measure()

    def _call(self) -> Any:
        target = target_of_row(self.row)
        # As a worker gets them: whoever relies on what cannot travel finds out here.
        arguments = decode(self.row.arguments)
        self.outcome.begun = True
        hooks.before(self.row)
        with sessions.wrappers_kept():
            return call(target, arguments, self.row)

    def _refuse_what_is_open(self) -> None:
        """Who finished has to have done his work; what the caller has open is the caller's."""
        theirs = {one.alias for one, state in self.before.items() if state is None}
        whole = {conf.DATABASE} if self.row.options.get("atomic") else set()
        leftovers.refuse_what_is_open(but=theirs | whole)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Within the caller's transaction a savepoint lets the end be written whatever it is."""
        if self.row.options.get("atomic"):
            with in_one_transaction(self.row, self.outcome):
                yield
                self._measure()
        elif self.within:
            with transaction.atomic(using=conf.DATABASE):
                yield
        else:
            yield

    def _measure(self) -> None:
        self.outcome.measures = measures_of(
            self._began, self.output.text(), self.task.progress
        )

    def call_hooks(self) -> None:
        """Call what the site wants to be called after each body that was called."""
        if self.outcome.begun:
            with running(self.task):
                result = None if self.outcome.error else self.outcome.value
                hooks.after(self.row, result, by_hand=True)


def _write_end(row: TaskLog, outcome: Outcome) -> bool:
    """Write the end; False when the task was canceled or given up on meanwhile."""
    try:
        written = outcome.committed or _end(row, outcome)
        if not written:
            lifecycle.release(row.pk, row.attempt)
    except DatabaseError:
        if outcome.error is None:
            raise
        # What broke the connection tells the caller more than this.
        logger.exception("The end of task %s could not be written.", row.pk)
        return True
    return written


def _end(row: TaskLog, outcome: Outcome) -> bool:
    error = outcome.error
    if error is None or isinstance(error, Ignore):
        return finish(row, outcome)
    # The caller has the error and decides himself whether to try again.
    failure = {**failure_of(row, error), "retry_in": None}
    return lifecycle.fail(row.pk, row.attempt, **failure, **outcome.measures)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """End the block by Celery's SoftTimeLimitExceeded; only a main thread can be interrupted."""
    earlier = _alarm()
    if earlier is None or 0 < earlier <= seconds:
        yield
        return
    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        left = max(earlier - (time.monotonic() - began), 0.001) if earlier else 0
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left)


def _alarm() -> float | None:
    """Return the seconds to an alarm that somebody has set, 0 for none; None where none can."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.getitimer(signal.ITIMER_REAL)[0]


def _too_long(_signum: int, _frame: Any) -> None:
    raise SoftTimeLimitExceeded
