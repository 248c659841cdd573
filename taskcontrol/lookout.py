"""Looks after the bodies of a worker: stops, frees their places, or declares them lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from . import bell, crashpoints, forcing, held, lifecycle, losses, memory
from .brief import brief
from .conf import conf
from .dialect import DatabaseNow, free_keys
from .execution import here
from .failures import forced_timeout
from .history import record
from .models import TaskEvent, TaskLog, seconds
from .status import Status

if TYPE_CHECKING:
    from .worker import Boot

#: Seconds that a Started task may be held by nothing here before it counts as lost: a child
#: claims before the main process has heard that it began.
UNHELD_FOR = 3.0
#: Seconds after the hard time limit after which the keeper does what the event loop, which
#: stands still while the broker is away, did not.
LIMIT_SLACK = 2.0


class Lookout:
    """Looks, in the keeper's thread, at the attempts that this worker has claimed."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        #: When the worker's event loop turned last.
        self.loop_seen_at = time.monotonic()
        self.kills = memory.KillsForMemory()
        self._unheld_since: dict[tuple[int, int], float] = {}
        self._asked_at: dict[tuple[int, int], float] = {}
        #: What ran here at the last look although no row waited for it.
        self._strays: set[tuple[int, int]] = set()
        #: Whose hard limit has come, which could not be written yet.
        self._overdue: set[tuple[int, int]] = set()

    def loop_is_alive(self) -> None:
        """Note that the event loop turns: it may have told by now who took what."""
        self.loop_seen_at = time.monotonic()

    def process_lost(self, task_id: int, attempt: int, why: str) -> bool:
        """A child died while it held an attempt, which another may still run."""
        if (task_id, attempt) in self._overdue:
            return self.timed_out(task_id, attempt)
        row = self._own(task_id, attempt)
        if row is None or held.has_body(task_id, attempt):
            return True
        crashpoints.reached("worker.lost")
        written = while_free(task_id, partial(self._write_loss, row, why))
        bell.ring()
        return written

    def _write_loss(self, row: TaskLog, why: str) -> None:
        if row.status == Status.STARTED:
            where = f"{self.boot.facts['hostname']}: {why.rstrip('.')}"
            killed = "SIGKILL" in why and self.kills.explain_one()
            losses.lose(row, where, for_memory=killed)
        else:
            lifecycle.release(row.pk, row.attempt)

    def timed_out(self, task_id: int, attempt: int) -> bool:
        """The hard limit of an attempt has come; its process is about to be killed."""
        key = (task_id, attempt)
        self._overdue.add(key)  # first: the database may be away
        row = self._own(*key)
        written = row is None or row.status != Status.STARTED
        if row is not None and not written:
            crashpoints.reached("worker.timed_out")
            fail = partial(lifecycle.fail, *key, **forced_timeout(row), body_gone=False)
            written = while_free(task_id, fail)
        if written:
            self._overdue.discard(key)
        return written

    def _own(self, task_id: int, attempt: int) -> TaskLog | None:
        """Return the row of an attempt that this worker has claimed, with whatever message."""
        rows = TaskLog.objects.filter(pk=task_id, attempt=attempt)
        return rows.filter(worker=here.worker_id).first()

    def watch(self) -> None:
        """Look at what this worker's bodies hold: stop, free, or declare lost."""
        fresh = Q(status=Status.QUEUED, queued_at__gt=DatabaseNow() - seconds(UNHELD_FOR))
        mine = TaskLog.objects.filter(~fresh, Q(worker=here.worker_id), occupies=True)
        seen = set()
        for row in mine.only("status", "attempt", "timeout"):
            seen.add((row.pk, row.attempt))
            if row.status == Status.STARTED:
                self._check_held(row)
            elif row.status == Status.QUEUED:
                self._check_claimed(row)
            else:
                self._stop(row)
        self._end_unwanted(set(held.attempts()) - seen)
        held.sweep(keep=seen)
        self._overdue &= seen
        for times in (self._unheld_since, self._asked_at):
            for key in times.keys() - seen:
                del times[key]

    def _end_unwanted(self, strays: set[tuple[int, int]]) -> None:
        """End the bodies that no row waits for, once an account has said so.

        One that claims at this moment, or is busy after its end, is here for a good reason.
        """
        for key in forcing.wanted_of(strays & self._strays):
            if held.kill(*key, signal.SIGKILL):
                gone = TaskLog(pk=key[0], attempt=key[1])
                record([gone], TaskEvent.Kind.FORCED, detail="it had been given up on")
        self._strays = strays

    def _check_held(self, row: TaskLog) -> None:
        """A Started row that nothing here holds was lost with its process, or its end was."""
        key = (row.pk, row.attempt)
        if held.has_body(*key):
            self._unheld_since.pop(key, None)
            child = held.find(*key)
            most = row.timeout + conf.CANCEL_GRACE + LIMIT_SLACK
            if child is not None and child.runs_for() > most:
                self.timed_out(*key)
        elif self._unheld_for(key) > UNHELD_FOR:
            who = "child" if self.boot.prefork else "thread"
            self.process_lost(*key, f"no {who} runs it")

    def _check_claimed(self, row: TaskLog) -> None:
        """What was claimed for this worker's children and is in nobody's hands waits again."""
        key = (row.pk, row.attempt)
        if held.has_body(*key):
            self._unheld_since.pop(key, None)
        elif time.monotonic() - self._unheld_since.setdefault(key, time.monotonic()) > (
            UNHELD_FOR
        ):
            why = "its worker had claimed it, and lost sight of it"
            lifecycle.unsend([key], detail=why, worker_id=here.worker_id)
            bell.ring()

    def _stop(self, row: TaskLog) -> None:
        """A body that is not wanted any more: free its place if it is gone, else stop it.

        One that goes on behind its fenced block has ended well, and is let alone. A thread
        cannot be stopped: its body goes where it asks.
        """
        key = (row.pk, row.attempt)
        if held.drop(*key):
            lifecycle.release(*key)
            bell.ring()
        elif held.has_body(*key):
            if row.status != Status.FINISHED and held.find(*key) is not None:
                self._make_go(row)
        elif self._is_over(key) and while_free(row.pk, partial(lifecycle.release, *key)):
            bell.ring()

    def _make_go(self, row: TaskLog) -> None:
        key = (row.pk, row.attempt)
        asked = self._asked_at.get(key)
        if asked is None:
            crashpoints.reached("worker.stopping")
            self._asked_at[key] = time.monotonic()
            # Before it is: a body that listens may be gone in the same moment.
            record([row], TaskEvent.Kind.TOLD)
            held.kill(*key, _cancel_signal())
        elif (
            time.monotonic() - asked > conf.CANCEL_GRACE or forcing.is_wanted(row)
        ) and held.kill(*key, signal.SIGKILL):
            detail = "its process did not stop when asked"
            record([row], TaskEvent.Kind.FORCED, detail=detail)

    def _is_over(self, key: tuple[int, int]) -> bool:
        """Return whether a body is gone: seen to go, or seen nowhere for long.

        It may have ended its task a moment after its claim, in a fenced block, and go on
        in a child of which the event loop has not told yet.
        """
        return self._unheld_for(key) >= (0 if self._is_known(key) else UNHELD_FOR)

    def _unheld_for(self, key: tuple[int, int]) -> float:
        """Return for how many seconds nothing here runs an attempt; -1 when that is unsure."""
        since = self._unheld_since.setdefault(key, time.monotonic())
        sure = self._is_known(key) or self.loop_seen_at > since
        return time.monotonic() - since if sure else -1

    def _is_known(self, key: tuple[int, int]) -> bool:
        """Return whether it was told who took an attempt: of a child by the event loop, once
        it turns; a thread says it itself.
        """
        return not self.boot.prefork or held.find(*key) is not None


def while_free(task_id: int, act: Callable[[], Any]) -> bool:
    """Do ``act`` while nobody else holds the task's row; False when somebody does.

    One row that a caller's open transaction holds keeps the keeper from no other.
    """
    row = TaskLog.objects.filter(pk=task_id)
    with brief():
        if not free_keys(row):
            return not row.exists()
        act()
    return True


def _cancel_signal() -> signal.Signals:
    from .interrupts import CANCEL

    return CANCEL
