"""Writes begins and ends of bodies that have no time for it themselves, many at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from django.db import Error as DatabaseError, connections

from . import bell, crashpoints, ends, lifecycle
from .conf import conf
from .context import without_user_code
from .deck import Claimed, Deck
from .execution import here
from .forks import DatabaseWork
from .lifecycle import Ran
from .lines import Page
from .lockwaits import LockWaitOver, impatient
from .models import TaskLog
from .status import Status

logger = logging.getLogger("taskcontrol")

#: Seconds between two groups while ends come in a stream.
GATHER = 0.01
#: Seconds between two tries while the database does not answer.
PAUSE = 0.3
#: The most ends of one group.
MOST = 1000


class Journal:
    """One thread of a worker's main process; nothing is told before it is committed."""

    def __init__(self, deck: Deck) -> None:
        self.deck = deck
        self._news = threading.Condition()
        self._begins: list[tuple[Claimed, int, Page, int, bool]] = []
        self._ends: list[tuple[Claimed, tuple[Any, ...]]] = []
        self._over = self._in_a_stream = False
        self._gave_up_at: float | None = None

    def ended(self, one: Claimed, ran: tuple[Any, ...]) -> None:
        """Note that a body has returned; ``ran``: a Ran with times of the monotonic clock."""
        with self._news:
            self._ends.append((one, ran))
            self._news.notify()

    def began(self, one: Claimed, pid: int, page: Page, *, asked: bool) -> None:
        """Note that a body runs; ``asked``: it waits for the word that this is written."""
        with self._news:
            self._begins.append((one, pid, page, one.number, asked))
            self._news.notify()

    def stop(self, within: float) -> None:
        """End when everything is written, or after so many seconds."""
        with self._news:
            self._over = True
            self._gave_up_at = time.monotonic() + within
            self._news.notify()

    def write_for_ever(self) -> None:
        """Write what comes, until ``stop``."""
        work = DatabaseWork()
        with without_user_code(), impatient(conf.DATABASE):
            while self._wait():
                try:
                    self._write(work)
                except Exception:
                    logger.exception("The journal stumbled, and goes on.")
                    time.sleep(PAUSE)
        connections.close_all()

    def _wait(self) -> bool:
        """Wait for what is to be written, and in a stream a little for more of it."""
        with self._news:
            if self._in_a_stream and not self._over:
                self._news.wait_for(self._is_urgent, GATHER)
            while not self._begins and not self._ends:
                if self._over:
                    return False
                self._news.wait()
            late = self._gave_up_at is not None and time.monotonic() > self._gave_up_at
            self._in_a_stream = bool(self.deck.waiting)
            return not late

    def _is_urgent(self) -> bool:
        return self._over or bool(self._begins) or not self.deck.waiting

    def _write(self, work: DatabaseWork) -> None:
        with self._news:
            begins, self._begins = self._begins, []
            ended, self._ends = self._ends[:MOST], self._ends[MOST:]
        try:
            with work.piece():
                while begins:
                    self._write_begin(*begins[0])
                    begins.pop(0)
                if ended:
                    self._write_ends(ended)
                    ended = []
        except LockWaitOver:
            logger.info("Somebody holds a task whose body is over; it is written soon.")
            self._again(begins, self._singly(ended, work))
        except Exception as error:  # noqa: BLE001 - no end is lost by whatever it is
            away = not isinstance(error, DatabaseError) or ends.may_pass(error)
            logger.warning("The database did not take %s ends: %s", len(ended), error)
            connections[conf.DATABASE].close()
            if away:
                time.sleep(PAUSE)
                self._again(begins, ended)
            else:
                self._again(begins, self._singly(ended, work))
            return

    def _again(self, begins: Sequence[Any], ended: Sequence[Any]) -> None:
        with self._news:
            self._begins[:0] = begins
            self._ends[:0] = ended

    def _singly(self, ended: Sequence[Any], work: DatabaseWork) -> list[Any]:
        """Write each by itself, since one of them keeps the others; return what is left."""
        left = []
        for one in ended:
            try:
                with work.piece():
                    self._write_ends([one])
            except LockWaitOver:
                left.append(one)
            except Exception as error:
                logger.exception("The end of task %s was refused.", one[0].key[0])
                connections[conf.DATABASE].close()
                lasting = isinstance(error, DatabaseError) and not ends.may_pass(error)
                if not lasting or not self._write_as_failed(one[0], one[1], error, work):
                    left.append(one)
        return left

    def _write_as_failed(
        self, one: Claimed, ran: Any, error: Exception, work: DatabaseWork
    ) -> bool:
        """What a body has returned cannot be stored: that is how it ended."""
        try:
            with work.piece():
                self._begin(one, ran[2], ran[3])
                lifecycle.fail(*one.key, error=f"{type(error).__name__}: {error}")
                self._settled([one])
        except Exception:
            logger.exception("The end of task %s is written later.", one.key[0])
            connections[conf.DATABASE].close()
            return False
        return True

    def _write_begin(
        self,
        one: Claimed,
        pid: int,
        page: Page,
        number: int,
        asked: bool,  # noqa: FBT001
    ) -> None:
        if one.answered and not asked:
            return  # its end says it
        crashpoints.reached("journal.begins")
        begun = self._begin(one, pid, page.since) or self._is_begun(one, pid)
        if begun:
            page.written = number  # unasked too: what a body has forked cannot ask
        elif asked:
            page.unwanted = number

    def _begin(self, one: Claimed, pid: int, since: float) -> bool:
        ago = max(time.monotonic() - since, 0.0)
        return lifecycle.begin(*one.key, worker_id=here.worker_id, pid=pid, ago=ago)

    def _is_begun(self, one: Claimed, pid: int) -> bool:
        task_id, attempt = one.key
        rows = TaskLog.objects.filter(pk=task_id, attempt=attempt, pid=pid)
        return rows.filter(status=Status.STARTED, worker=here.worker_id).exists()

    def _write_ends(self, ended: Sequence[tuple[Claimed, tuple[Any, ...]]]) -> None:
        crashpoints.reached("journal.ends")
        now = time.monotonic()
        ran = [
            Ran._make([*one[:3], max(now - one[3], 0.0), max(now - one[4], 0.0), *one[5:]])
            for _, one in ended
        ]
        moved = lifecycle.finish_claimed(ran, worker_id=here.worker_id)
        crashpoints.reached("journal.written")
        for (one, _), end in zip(ended, ran, strict=True):
            if end.task_id not in moved:
                self._write_otherwise(one, end)
        self._settled([one for one, _ in ended])

    def _write_otherwise(self, one: Claimed, end: Ran) -> None:
        """Somebody listens since it was sent, or it was canceled or given up meanwhile."""
        self._begin(one, end.pid, time.monotonic() - end.began)
        told = end.as_columns()
        for name in ("id", "attempt", "pid", "began", "ended"):
            del told[name]
        if not lifecycle.finish(*one.key, **told):
            ends.take_refusal(
                TaskLog(
                    pk=end.task_id,
                    attempt=end.attempt,
                    pid=end.pid,
                    worker_id=here.worker_id,
                    lost_count=one.card.lost_count,
                ),
                detail=f"it had begun in process {end.pid}, and came to its end",
            )

    def _settled(self, claimed: Sequence[Claimed]) -> None:
        self.deck.settle([one.key for one in claimed])
        bell.ring()
