"""Commits what a body writes and the end of its task as one transaction, or neither."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connections, transaction

from . import crashpoints, leftovers
from .brief import brief, within_another
from .conf import conf
from .currenttask import CurrentTask
from .ends import Outcome, finish
from .exceptions import TaskCanceled, WithinTransaction
from .models import TaskLog

logger = logging.getLogger("taskcontrol")


@contextmanager
def in_one_transaction(
    row: TaskLog, outcome: Outcome, *, body_gone: bool = True
) -> Iterator[None]:
    """Commit the block and the end of its task, Finished, as one; or neither of them.

    A canceled or superseded attempt cannot write its end, and what it did is rolled back.
    ``body_gone``: the block is the rest of the body, so the place is free.
    """
    using = conf.DATABASE
    within_anothers = connections[using].in_atomic_block
    try:
        with brief(alone=False) as whole:
            transaction.on_commit(outcome.mark_committed, using=using)
            yield
            whole.alone = True
            _finish_or_roll_back(row, outcome, body_gone=body_gone)
    except Exception:
        if not outcome.committed:
            raise
        # Said by a hook of on_commit: too late to change what has happened.
        logger.exception("A hook of on_commit failed; task %s stays Finished.", row.pk)
    outcome.committed |= within_anothers
    if not outcome.committed:
        raise transaction.TransactionManagementError(
            "The body has rolled back, or left open, the transaction that is to be "
            "committed together with its end."
        )


def _finish_or_roll_back(row: TaskLog, outcome: Outcome, *, body_gone: bool) -> None:
    if not finish(row, outcome, body_gone=body_gone):
        raise TaskCanceled
    crashpoints.reached("atomic.ended")


def fence(
    row: TaskLog, task: CurrentTask, outcome: Outcome, measure: Callable[[], None]
) -> None:
    """Let ``task.fenced()`` commit its block together with the end of the task.

    ``measure`` writes into ``outcome`` what the end is to tell.
    """
    using = conf.DATABASE
    whole = bool(row.options.get("atomic"))

    @contextmanager
    def end_with() -> Iterator[None]:
        if outcome.fenced:
            raise RuntimeError(
                f"Task {row.pk} has ended with its first fenced() block: a body has one, and "
                "steps before it stand in held()."
            )
        task.check_canceled()
        if whole and connections[using].in_atomic_block:
            with transaction.atomic(using=using):
                yield  # the end of the body decides for all of it
            return
        if within_another(using):
            raise WithinTransaction("fenced", row.pk)
        with in_one_transaction(row, outcome, body_gone=False):
            yield
            measure()
        outcome.fenced = True

    task.end_with = end_with


@contextmanager
def past_the_fence(row: TaskLog, outcome: Outcome) -> Iterator[None]:
    """Let no error of a body undo, or run again, what its fenced block has ended."""
    try:
        yield
    except BaseException as error:
        if not outcome.fenced:
            raise
        leftovers.let_go_of_memory(error)
        logger.exception("Task %s stays Finished: its body failed after its end.", row.pk)
