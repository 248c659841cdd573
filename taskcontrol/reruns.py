"""Runs a body again in place after a conflict in the database, or when it asks for that."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from django.db import Error as DatabaseError

from . import conflicts, interrupts
from .context import current_task
from .leftovers import roll_back_what_is_open
from .models import TaskLog

logger = logging.getLogger("taskcontrol")

#: Seconds between two looks for a cancel during a pause.
LOOK_EVERY = 0.5


def run_through_conflicts(row: TaskLog, run: Callable[[], None]) -> None:
    """Call ``run``, again after errors that pass, in the same attempt and uncounted.

    A pause can be interrupted as the body can: by cancel, and by the time limit, which goes
    on over all of it.
    """
    for number, pause in enumerate(conflicts.PAUSES, 1):
        try:
            return run()
        except Exception as error:
            if not conflicts.passes(error):
                raise
            logger.warning(
                "Task %s is run again in place in %g s (%d of %d), after %s: %s",
                row.pk,
                pause,
                number,
                len(conflicts.PAUSES),
                type(error).__name__,
                error,
            )
        roll_back_what_is_open()
        _rest(row, pause)
    return run()


def _rest(row: TaskLog, pause: float) -> None:
    until = time.monotonic() + pause
    task = current_task()
    with interrupts.allowed(row):
        while (left := until - time.monotonic()) > 0:
            if task is not None:
                # On threads nobody can interrupt, so it asks. No answer is no reason to stop.
                with suppress(DatabaseError):
                    task.check_canceled()
            time.sleep(min(left, LOOK_EVERY))
