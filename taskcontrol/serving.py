"""What a worker's child does with the jobs of its line: runs them one by one, and answers."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django.db import OperationalError

from . import crashpoints, ends, execution, interrupts, lines, memory, prefork
from .conf import conf
from .ends import End, EndKind, Outcome
from .exceptions import TaskCanceled
from .lifecycle import CLAIMED
from .lines import Answer, Job, Line, lease
from .models import TaskLog
from .prepared import Thaw
from .status import Status

logger = logging.getLogger("taskcontrol")

#: Seconds that a body waits for the word that its begin is written.
WORD_TAKES = 15.0
#: Seconds that a child waits for the word whether its process is about to be ended.
HALTS_FOR = 5.0
#: What a row that was claimed as it was sent brings along, in this order.
COLUMNS = tuple(dict.fromkeys(["id", "rev", "heard", *CLAIMED]))
_STATUS = COLUMNS.index("status")


class Servant:
    """Serves the line of one child."""

    def __init__(self, line: Line, other_job_waits: Callable[[], bool]) -> None:
        self.line, self._other_job_waits = line, other_job_waits
        #: How many bodies it has run.
        self.bodies = 0
        #: Whether the main process has closed the line.
        self.over = False
        self._thaw: Thaw | None = None
        #: How the last body ended; None while it has not.
        self._outcome: Outcome | None = None
        interrupts.install_time_limit()

    def rest(self) -> None:
        """Nothing runs: a signal that comes now is late."""
        interrupts.expect(_never)

    def make_way(self) -> None:
        """A job of Celery's runs next, which sees to its signals itself."""
        interrupts.expect(None)

    def serve(self, most: int | None) -> None:
        """Run the jobs that have come, ``most`` of them, unless Celery has something to do."""
        jobs = self.line.jobs()
        self.over = not jobs
        last = None if most is None else self.bodies + most
        try:
            for job in jobs:
                if last is not None and self.bodies >= last:
                    self._say(Answer(job.number, lines.UNBEGUN))
                else:
                    self._do(job)
        finally:
            interrupts.expect(_never)

    def _do(self, job: Job) -> None:
        page = self.line.page
        if self._other_job_waits() or not lease.holds() or not memory.is_left():
            self._say(Answer(job.number, lines.UNBEGUN))
            return
        page.begin(job.number)
        crashpoints.reached("serve.begun")
        try:
            if page.taken_back >= job.number or not self._may_go_on(job.number):
                self._say(Answer(job.number, lines.UNBEGUN))
                return
            self.bodies += 1
            interrupts.expect(partial(self._is_aimed_at, job.number))
            if job.values is None:
                self._claim_and_run(job)
            else:
                self._run(job, job.values)
        finally:
            page.end()
            if self.line.parted:
                os._exit(1)  # a copy that came back from its body: the first goes on

    def _may_go_on(self, number: int) -> bool:
        """Wait while this process may be about to be ended, for what ran here before."""
        page, until = self.line.page, time.monotonic() + HALTS_FOR
        while page.halt and page.halt != number:
            if time.monotonic() > until:
                return False
            time.sleep(0.001)
        return True

    def _is_aimed_at(self, number: int) -> bool:
        page = self.line.page
        return page.aim == number == page.current

    def _claim_and_run(self, job: Job) -> None:
        """Run it as one that came by message: this child claims it, and writes its end."""
        row, self._outcome = None, None
        try:
            row = self._claim(job)
            if row is not None:
                execution.run_claimed(row, keep=self._keep)
        except Exception:
            logger.exception("Task %s: attempt %s failed.", job.task_id, job.attempt)
        finally:
            interrupts.expect(_never)  # a signal in the middle of it would spoil the line
            if row is None:
                self._say(Answer(job.number, lines.REFUSED))
            else:
                self._say(self._answer_of(job.number, row))

    def _keep(self, outcome: Outcome) -> None:
        """The body is over: a signal that comes now is late, and its end is not lost."""
        interrupts.expect(_never)
        self._outcome = outcome

    def _answer_of(self, number: int, row: TaskLog, *, simple: bool = False) -> Answer:
        """Return what to say of a body that is over; an end that is not written goes along.

        ``simple``: that it has returned is for the main process to write.
        """
        outcome, began, now = self._outcome, self.line.page.since, time.monotonic()
        if outcome is not None and (outcome.written or outcome.committed):
            return Answer(number, lines.DONE)
        if simple and outcome is not None and outcome.error is None:
            return Answer(number, lines.RETURNED, began, now, ends.told_of(outcome))
        return Answer(number, lines.UNWRITTEN, began, now, _end_of(row, outcome))

    def _claim(self, job: Job) -> TaskLog | None:
        """Ask twice, as for a message: the answer to the first claim may have been lost."""
        try:
            return execution.claim(job.task_id, job.attempt)
        except Exception:
            logger.exception("Task %s: its claim failed, and is tried again.", job.task_id)
            return execution.claim(job.task_id, job.attempt, again=True)

    def _run(self, job: Job, values: Sequence[Any]) -> None:
        if self._thaw is None:
            self._thaw = Thaw(TaskLog, COLUMNS, conf.DATABASE)
        given = list(values)
        given[_STATUS] = Status.STARTED
        row = self._thaw(given)
        row.pid = os.getpid()
        del row.__dict__["started_at"]  # read when asked for: it may not be written yet
        self._outcome = None
        have_begun = partial(self._have_begun, job.number)
        try:
            execution.run_begun(row, have_begun, keep=self._keep)
        except Exception:
            logger.exception("Task %s: attempt %s failed.", job.task_id, job.attempt)
        finally:
            interrupts.expect(_never)
            self._say(self._answer_of(job.number, row, simple=True))
        if interrupts.process_must_go():
            raise SystemExit

    def _have_begun(self, number: int) -> None:
        """Wait until the main process has written that this body began."""
        page = self.line.page
        if page.written == number:
            return
        self._say(Answer(number, lines.ASKS))
        until = time.monotonic() + WORD_TAKES
        while page.written != number:
            if page.unwanted == number:
                raise TaskCanceled
            if time.monotonic() > until:
                raise OperationalError(
                    "The begin of this task could not be written in time."
                )
            time.sleep(0.0005)

    def _say(self, answer: Answer) -> None:
        """Say it at once: kept here it would wait for the next body, and die with it."""
        self.line.answer(answer)


def _never() -> bool:
    return False


def _end_of(row: TaskLog, outcome: Outcome | None) -> End:
    """Return the end of a body that has yet to be written; who saw none has lost it.

    Not as what never began: that would begin again, uncounted.
    """
    if outcome is not None:
        try:
            end = ends.end_of(row, outcome)
            pickle.dumps(end)  # the line carries it beside the answers of others
        except Exception:
            logger.exception("Task %s: its end cannot be told.", row.pk)
        else:
            return end
    return End(EndKind.LOST, {"where": f"process {os.getpid()}: nobody saw how it ended"})


prefork.serve_by.append(Servant)
