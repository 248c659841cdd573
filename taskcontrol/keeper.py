"""The keeper's thread: a worker's signs of life, its errands, and what it says when it goes."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import connections

from . import clocks, crashpoints, held, rescue, vitals
from .conf import conf
from .context import without_user_code
from .dialect import DatabaseNow, update_returning
from .errands import safely
from .execution import here
from .forks import DatabaseWork
from .lines import lease
from .lockwaits import impatient
from .lookout import while_free
from .models import TaskLog, Worker
from .timers import Every

if TYPE_CHECKING:
    from .worker import Boot

logger = logging.getLogger("taskcontrol")

#: Seconds between two looks at the bodies of the worker.
WATCH_EVERY = 1.0


class Keeper:
    """Renews the worker's row, and does what the event loop must not wait for."""

    def __init__(self, boot: Boot) -> None:
        self.boot = boot
        self._wake = threading.Event()
        self._errands: list[Callable[[], Any]] = []
        self.work = DatabaseWork()

    def do(self, errand: Callable[[], Any]) -> None:
        """Let the thread do ``errand`` soon: the event loop must not wait for a database.

        It is done again at a later tick while it returns False, waits for a lock, or the
        database is away.
        """
        self._errands.append(errand)
        self.wake()

    def wake(self) -> None:
        """Do not wait for the next tick."""
        self._wake.set()

    def keep_for_ever(self) -> None:
        """Work until the worker has stopped, also through a long warm shutdown."""
        beat = Every(conf.HEARTBEAT_INTERVAL, self._sign_of_life, insist=True)
        work = self.work
        with without_user_code(), impatient(conf.DATABASE):
            while not self.boot.stopped.is_set():
                if self.boot.row is None:
                    safely(self.boot.register, work)
                else:
                    self._keep(beat, work)
                self._wake.wait(WATCH_EVERY)
                self._wake.clear()
        connections.close_all()

    def _keep(self, beat: Every, work: DatabaseWork) -> None:
        if self.boot.leaving:
            safely(self._say_leaving, work)
        safely(beat.run, work)
        self._run_errands()
        safely(self.boot.lookout.watch, work)

    def _run_errands(self) -> None:
        until = time.monotonic() + WATCH_EVERY
        for _ in range(len(self._errands)):
            errand = self._errands.pop(0)
            if safely(errand, self.work) is False:
                self._errands.append(errand)
                if time.monotonic() > until:
                    break  # somebody waits for a sign of life

    def _sign_of_life(self) -> None:
        rows = Worker.objects.filter(pk=here.worker_id, lost_at=None)
        since = lease.clock()
        values = {"last_seen_at": DatabaseNow(), **self._vitals()}
        written = update_returning(rows, values, ("leaving_at",))
        if any(row.leaving_at is not None for row in written) and not self.boot.leaving:
            self._go()
        if written:
            self.boot.renew_lease(since)
            return
        logger.error(
            "This worker was declared lost while it was silent; it stops what it runs and "
            "goes on under a new row."
        )
        self.boot.register_again()

    def _go(self) -> None:
        """Somebody wrote into the row that this worker shall leave: see ``draining.py``."""
        logger.info("This worker was told to leave: it finishes what runs and ends.")
        self.boot.leave()
        os.kill(os.getpid(), signal.SIGTERM)

    def _vitals(self) -> dict[str, Any]:
        self.boot.lookout.kills.look()
        answered = self.boot.lookout.loop_seen_at
        self.boot.in_loop(self.boot.lookout.loop_is_alive)
        return {
            "consuming": time.monotonic() - answered < 4 * conf.HEARTBEAT_INTERVAL,
            **vitals.costs(self.boot.process),
            **self.boot.capacity(),
            "held": held.attempts(),
            "clock_offset": clocks.seconds_ahead(conf.DATABASE),
        }

    def _say_leaving(self) -> None:
        """Let nothing more be sent to this worker."""
        rows = Worker.objects.filter(pk=here.worker_id, leaving_at=None)
        rows.update(leaving_at=DatabaseNow())

    def say_goodbye(self) -> None:
        """Hand in the row; what still stands as Started here runs elsewhere, uncounted."""
        with without_user_code(), impatient(conf.DATABASE):
            self._run_errands()
            if here.worker_id is None:
                return  # it never had a row, and what has no worker is not its own
            safely(self._say_left, self.work)
            crashpoints.reached("worker.left")
            for row in safely(self._own_rows, self.work) or ():
                move = partial(rescue.rescue_from_worker, row)
                # What somebody holds is for a sweep: one second for each would be for ever.
                safely(partial(while_free, row.pk, move), self.work)

    def _own_rows(self) -> list[TaskLog]:
        return list(TaskLog.objects.filter(occupies=True, worker=here.worker_id))

    def _say_left(self) -> None:
        self._say_leaving()
        now = DatabaseNow()
        rows = Worker.objects.filter(pk=here.worker_id, lost_at=None)
        rows.update(left_at=now, last_seen_at=now, held=[])
