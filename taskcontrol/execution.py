"""Runs one attempt of one task in a worker: claim, body, measures, end."""

from __future__ import annotations

import logging
import mmap
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

from django.db import (
    InterfaceError,
    OperationalError,
    close_old_connections,
    connections,
)

from . import (
    bell,
    crashpoints,
    hooks,
    interrupts,
    leftovers,
    lifecycle,
    memory,
    sessions,
    tasktypes,
)
from .arguments import decode
from .celerytasks import call
from .conf import conf
from .context import running
from .currenttask import CurrentTask
from .ends import Outcome, measures_of, tell_the_rest, write_end
from .exceptions import TaskCanceled
from .fencing import fence, in_one_transaction, past_the_fence
from .models import TaskLog, Worker
from .output import Capture, captured
from .reruns import run_through_conflicts
from .status import Status
from .targets import target_of_row

logger = logging.getLogger("taskcontrol")


def run(task_id: int, attempt: int) -> bool:
    """Claim an attempt and run it to its end; False when there was nothing to run."""
    row = claim(task_id, attempt)
    return row is not None and run_claimed(row)


def claim(task_id: int, attempt: int, *, again: bool = False) -> TaskLog | None:
    """Claim an attempt for this process; None when it is not, or no more, to be run.

    A message may come twice, late, or after a cancel: who does not win does not run.
    ``again``: the same delivery has asked before, and could not read the answer.
    """
    leftovers.roll_back_what_is_open()
    close_old_connections()
    if here.in_worker and here.worker_id is None:
        # Nobody would rescue what a worker runs that has no row.
        logger.warning("Task %s is left to others: this worker is not registered.", task_id)
        return None
    crashpoints.reached("claim.begun")
    worker = here.worker_id
    try:
        won = lifecycle.claim(task_id, attempt, worker_id=worker, pid=os.getpid())
        if won is None and again:
            won = _won_unheard(task_id, attempt, worker)
        if won is None and worker is not None:
            _send_back(task_id, attempt, worker)
    except Exception:
        # A session that somebody has spoilt would refuse every message that comes here.
        leftovers.close(connections[conf.DATABASE])
        raise
    return won


def _won_unheard(task_id: int, attempt: int, worker: int | None) -> TaskLog | None:
    """Return a claim of this process of which the answer was lost on its way.

    Only where a process runs one task at a time: of two copies of a message in two threads,
    each would take the claim of the other for its own.
    """
    if worker is None or not interrupts.in_main_thread():
        return None
    mine = TaskLog.objects.filter(
        pk=task_id,
        attempt=attempt,
        status=Status.STARTED,
        worker=worker,
        pid=os.getpid(),
        worker__left_at=None,
        worker__lost_at=None,
    )
    return mine.only(*lifecycle.CLAIMED).first()


def _send_back(task_id: int, attempt: int, worker: int) -> None:
    """Let others have at once what a worker must not claim that was declared lost.

    Its main process goes on under a new row as soon as it hears of it.
    """
    if not Worker.objects.filter(pk=worker, left_at=None, lost_at=None).exists():
        lifecycle.unsend([(task_id, attempt)], detail="its worker had been declared lost")
        bell.request_dispatch()


def run_claimed(row: TaskLog, *, keep: Callable[[Outcome], None] | None = None) -> bool:
    """Run a claimed attempt and write its end; return whether the end was written.

    ``keep`` is given what became of the body, before that is written.
    """
    task = CurrentTask(row)
    try:
        crashpoints.reached("claim.won")
        outcome = Body(row, task).run()
        if keep is not None:
            keep(outcome)
        written = _write(row, outcome)
        if outcome.begun:
            with running(task):
                hooks.after(row, outcome.value if outcome.error is None else None)
        crashpoints.reached("attempt.done")
    finally:
        interrupts.forget()
        # What hooks and receivers left open: behind its answer a child holds no row.
        leftovers.roll_back_what_is_open()
        close_old_connections()
        bell.ring()
    if interrupts.process_must_go():
        raise SystemExit  # again: the body may have swallowed it
    return written


def _write(row: TaskLog, outcome: Outcome) -> bool:
    written = write_end(row, outcome)
    outcome.written = True
    crashpoints.reached("end.written")
    return written


def run_begun(
    row: TaskLog, have_begun: Callable[[], None], *, keep: Callable[[Outcome], None]
) -> None:
    """Run a body of which this worker's main process writes that it began, and how it ended.

    An end that is not simply that it returned is written here. ``have_begun`` waits until the
    begin is written, which nothing that goes past the body may precede. ``keep`` is given what
    became of the body, before anything else that may fail.
    """
    leftovers.roll_back_what_is_open()
    close_old_connections()
    task = CurrentTask(row)
    task.have_begun = have_begun
    try:
        outcome = Body(row, task).run()
        keep(outcome)
        if outcome.error is not None or outcome.committed:
            with suppress(TaskCanceled):  # then the end is refused, too
                have_begun()
            _write(row, outcome)
    finally:
        interrupts.forget()
        leftovers.roll_back_what_is_open()
        close_old_connections()


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


class Body:
    """One run of a task's function, measured."""

    def __init__(self, row: TaskLog, task: CurrentTask) -> None:
        self.row, self.task = row, task
        self.outcome = Outcome()
        self.output = Capture()
        self._began = time.monotonic()
        fence(row, task, self.outcome, self._measure)

    def run(self) -> Outcome:
        """Run the body, again in place where that helps; return how it ended."""
        memory.reset_peak()
        outcome = self.outcome
        with captured() as self.output, running(self.task), closing(self.task):
            try:
                with interrupts.allowed(self.row):
                    work = self._prepare()
                run_through_conflicts(self.row, lambda: self._run_once(work))
            except BaseException as error:  # noqa: BLE001 - nothing that a body throws may harm a worker
                leftovers.let_go_of_memory(error)
                outcome.error = error
        if not outcome.committed:
            self._measure()
        crashpoints.reached("body.done")
        return outcome

    def _prepare(self) -> Callable[[], Any]:
        row = self.row
        target = target_of_row(row)
        _confirm_type(row.method)
        self.outcome.begun = True
        hooks.before(row)
        # Decoded for each run, since a body may have changed what it was given.
        return lambda: call(target, decode(row.arguments), row)

    def _run_once(self, work: Callable[[], Any]) -> None:
        if not self.row.options.get("atomic"):
            self._call(work)
            return
        with in_one_transaction(self.row, self.outcome):
            self._call(work)
            self._measure()

    def _call(self, work: Callable[[], Any]) -> None:
        try:
            with (
                past_the_fence(self.row, self.outcome),
                sessions.wrappers_kept(),
                interrupts.no_alarm_left(),
                interrupts.allowed(self.row),
            ):
                crashpoints.reached("body.ready")
                self.outcome.value = work()
        finally:
            self.task.let_go()
        self._refuse_what_is_open()
        if self.outcome.fenced:
            leftovers.roll_back_what_is_open()
            self._measure()
            tell_the_rest(self.row, self.outcome)

    def _refuse_what_is_open(self) -> None:
        """What the body has written there is lost: who finished has to have done his work."""
        with past_the_fence(self.row, self.outcome):
            whole = {conf.DATABASE} if self.row.options.get("atomic") else ()
            leftovers.refuse_what_is_open(but=whole)

    def _measure(self) -> None:
        self.outcome.measures = measures_of(
            self._began, self.output.text(), self.task.progress
        )


def _confirm_type(method: str) -> None:
    """A database that drops the connection here must not fail a body that never began."""
    try:
        tasktypes.confirm(method)
    except (OperationalError, InterfaceError) as error:
        logger.warning(
            "The type %s was not confirmed, the next task does it: %s", method, error
        )
        connections[conf.DATABASE].close()
