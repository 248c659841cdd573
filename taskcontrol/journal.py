"""Writes begins and ends of bodies that have no time for it themselves, many at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import Error as DatabaseError, connections

from . import bell, crashpoints, ends, lifecycle
from .brief import brief
from .conf import conf
from .context import without_user_code
from .deck import Claimed, Deck
from .dialect import free_keys
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
#: The most locks of others that are waited for before what is new has its turn.
MOST_WAITS = 3


class Begin(NamedTuple):
    """A body that runs, as it was when that was noted: its child may be at the next by now."""

    one: Claimed
    pid: int
    page: Page
    number: int
    since: float
    #: Whether the body waits for the word that this is written.
    asked: bool


class End(NamedTuple):
    """A body that has returned; ``ran``: the values of a Ran."""

    one: Claimed
    ran: tuple[Any, ...]


class Journal:
    """One thread of a worker's main process; nothing is told before it is committed."""

    def __init__(self, deck: Deck) -> None:
        self.deck = deck
        self._news = threading.Condition()
        self._begins: list[Begin] = []
        self._ends: list[End] = []
        #: What waits for rows that somebody else holds, and when to look at them again.
        self._held: list[Begin | End] = []
        self._look_at = 0.0
        self._over = self._in_a_stream = False
        self._gave_up_at: float | None = None

    def ended(self, one: Claimed, ran: tuple[Any, ...]) -> None:
        """Note that a body has returned; ``ran``: the values of a Ran."""
        with self._news:
            self._ends.append(End(one, ran))
            self._news.notify()

    def began(self, one: Claimed, pid: int, page: Page, *, asked: bool) -> None:
        """Note that a body runs; ``asked``: it waits for the word that this is written."""
        with self._news:
            self._begins.append(Begin(one, pid, page, one.number, page.since, asked))
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
            while not self._begins and not self._ends and not self._is_time_to_look():
                if self._over and not self._held:
                    return False
                self._news.wait(PAUSE if self._held else None)
            late = self._gave_up_at is not None and time.monotonic() > self._gave_up_at
            self._in_a_stream = bool(self.deck.waiting)
            return not late

    def _is_urgent(self) -> bool:
        return self._over or bool(self._begins) or not self.deck.waiting

    def _is_time_to_look(self) -> bool:
        return bool(self._held) and time.monotonic() >= self._look_at

    def _write(self, work: DatabaseWork) -> None:
        if self._is_time_to_look():
            held, self._held = self._held, []
            self._again(*self._set_aside(held, work))
        with self._news:
            begins, self._begins = self._begins, []
            ended, self._ends = self._ends[:MOST], self._ends[MOST:]
        try:
            with work.piece():
                while begins:
                    self._write_begin(begins[0])
                    begins.pop(0)
                if ended:
                    self._write_ends(ended)
                    ended = []
        except LockWaitOver:
            logger.info("Somebody holds a task whose body is over; it is written soon.")
            self._part([*begins, *ended], work)
        except Exception as error:  # noqa: BLE001 - no end is lost by whatever it is
            away = not isinstance(error, DatabaseError) or ends.may_pass(error)
            logger.warning("The database did not take %s ends: %s", len(ended), error)
            connections[conf.DATABASE].close()
            if away:
                time.sleep(PAUSE)
                self._again(begins, ended)
            else:
                self._singly([*begins, *ended], work)

    def _again(self, begins: Sequence[Begin], ended: Sequence[End]) -> None:
        with self._news:
            self._begins[:0] = begins
            self._ends[:0] = ended

    def _part(self, news: Sequence[Begin | End], work: DatabaseWork) -> None:
        """Somebody holds rows of these: set them aside, so that the others need not wait."""
        begins, ended = self._set_aside(news, work)
        if len(begins) + len(ended) < len(news):
            self._again(begins, ended)
        else:
            self._singly(news, work)  # what keeps one of them is no row of a task

    def _set_aside(
        self, news: Sequence[Begin | End], work: DatabaseWork
    ) -> tuple[list[Begin], list[End]]:
        """Keep those whose rows are held for a later look; return the others."""
        keys = {one.one.key[0] for one in news}
        rows = TaskLog.objects.filter(pk__in=keys).order_by("pk")
        try:
            with work.piece(), brief():
                gone = keys - set(rows.values_list("pk", flat=True))
                free = {*free_keys(rows), *gone}
        except Exception as error:  # noqa: BLE001 - who cannot look tries them all
            logger.warning("Who holds tasks was not seen: %s", error)
            connections[conf.DATABASE].close()
            free = keys
        self._hold([one for one in news if one.one.key[0] not in free])
        left = [one for one in news if one.one.key[0] in free]
        return (
            [one for one in left if isinstance(one, Begin)],
            [one for one in left if isinstance(one, End)],
        )

    def _hold(self, news: Sequence[Begin | End]) -> None:
        if news:
            self._held += news
            self._look_at = time.monotonic() + PAUSE

    def _singly(self, news: Sequence[Begin | End], work: DatabaseWork) -> None:
        """Write each by itself, since one of them keeps the others."""
        waits, left = 0, list(news)
        while left and waits < MOST_WAITS:
            one = left.pop(0)
            try:
                with work.piece():
                    if isinstance(one, Begin):
                        self._write_begin(one)
                    else:
                        self._write_ends([one])
            except LockWaitOver:
                waits += 1
                self._hold([one])
            except Exception as error:
                logger.exception("What became of task %s was refused.", one.one.key[0])
                connections[conf.DATABASE].close()
                lasting = isinstance(error, DatabaseError) and not ends.may_pass(error)
                if not lasting or not self._write_as_failed(one, error, work):
                    self._hold([one])
        self._again(
            [one for one in left if isinstance(one, Begin)],
            [one for one in left if isinstance(one, End)],
        )

    def _write_as_failed(
        self, end: Begin | End, error: Exception, work: DatabaseWork
    ) -> bool:
        """What a body has returned cannot be stored: that is how it ended."""
        if isinstance(end, Begin):
            return False
        one, ran = end
        try:
            with work.piece():
                ended = Ran._make(ran)
                self._begin(one, ended.pid, ended.began)
                lifecycle.fail(*one.key, error=f"{type(error).__name__}: {error}")
                self._settled([one])
        except Exception:
            logger.exception("The end of task %s is written later.", one.key[0])
            connections[conf.DATABASE].close()
            return False
        return True

    def _write_begin(self, begin: Begin) -> None:
        one, pid, page = begin.one, begin.pid, begin.page
        if one.answered:
            return  # its end says it, and nobody waits for a word
        crashpoints.reached("journal.begins")
        begun = self._begin(one, pid, begin.since) or self._is_begun(one, pid)
        if begun:
            # Unasked too: what a body has forked cannot ask.
            page.written = max(page.written, begin.number)
        elif begin.asked:
            page.unwanted = max(page.unwanted, begin.number)

    def _begin(self, one: Claimed, pid: int, since: float) -> bool:
        return lifecycle.begin(*one.key, worker_id=here.worker_id, pid=pid, since=since)

    def _is_begun(self, one: Claimed, pid: int) -> bool:
        task_id, attempt = one.key
        rows = TaskLog.objects.filter(pk=task_id, attempt=attempt, pid=pid)
        return rows.filter(status=Status.STARTED, worker=here.worker_id).exists()

    def _write_ends(self, ended: Sequence[End]) -> None:
        crashpoints.reached("journal.ends")
        ran = [Ran._make(one) for _, one in ended]
        moved = lifecycle.finish_claimed(ran, worker_id=here.worker_id)
        crashpoints.reached("journal.written")
        for (one, _), end in zip(ended, ran, strict=True):
            if end.task_id not in moved:
                self._write_otherwise(one, end)
        self._settled([one for one, _ in ended])

    def _write_otherwise(self, one: Claimed, end: Ran) -> None:
        """Somebody listens since it was sent, or it was canceled or given up meanwhile."""
        self._begin(one, end.pid, end.began)
        if not lifecycle.finish(*one.key, **end.told()):
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
