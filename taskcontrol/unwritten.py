"""Writes the end of a body that the database did not take from its child, when it takes it."""

from __future__ import annotations

import logging

from django.db import connections

from . import bell, ends, lifecycle
from .conf import conf
from .deck import Claimed, Deck
from .ends import End, EndKind
from .errands import is_away
from .execution import here
from .lines import Answer
from .lockwaits import LockWaitOver
from .models import TaskLog

logger = logging.getLogger("taskcontrol")


class UnwrittenEnd:
    """An errand of the keeper, tried again until the end is written or refused.

    Until then the worker vouches for the attempt: nobody takes it for lost.
    """

    def __init__(self, deck: Deck, one: Claimed, pid: int, answer: Answer) -> None:
        self.deck, self.one, self.pid, self.began = deck, one, pid, answer.began
        self.end = End(*answer.told)
        # By now: one that is declared lost meanwhile goes on under another number.
        self.worker_id = here.worker_id

    def __repr__(self) -> str:
        return "the end of attempt {1} of task {0}".format(*self.one.key)

    def __call__(self) -> None:
        """Write begin and end; what is wrong with the end itself is how it ended."""
        try:
            try:
                self._write(self.end)
            except Exception as error:
                if _may_pass(error):
                    raise
                logger.exception("The end of task %s was refused.", self.one.key[0])
                connections[conf.DATABASE].close()
                self._write(
                    End(EndKind.FAILED, {"error": f"{type(error).__name__}: {error}"})
                )
        except Exception as error:
            if not _may_pass(error):
                self._settle()  # nothing can be said of it: it counts as lost
            raise
        self._settle()

    def _write(self, end: End) -> None:
        task_id, attempt = self.one.key
        if not self.one.writes_itself:
            # First: what is still Queued could be given back as if it had not begun.
            key, since = self.one.key, self.began
            lifecycle.begin(*key, worker_id=self.worker_id, pid=self.pid, since=since)
        row = TaskLog.objects.filter(pk=task_id, attempt=attempt).first()
        if row is None or not ends.write(row, end):
            ends.take_refusal(
                TaskLog(
                    pk=task_id,
                    attempt=attempt,
                    pid=self.pid,
                    worker_id=self.worker_id,
                    lost_count=self.one.card.lost_count,
                )
            )

    def _settle(self) -> None:
        self.deck.settle([self.one.key])
        bell.ring()


def _may_pass(error: Exception) -> bool:
    """Return whether the same may be taken later: see ``errands.safely``."""
    return is_away(error) or isinstance(error, LockWaitOver)
