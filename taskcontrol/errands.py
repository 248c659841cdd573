"""Does one piece of the work of a worker's threads: what fails is logged, and ends nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.db import (
    DataError,
    Error as DatabaseError,
    IntegrityError,
    ProgrammingError,
    connections,
)

from .conf import conf
from .forks import DatabaseWork
from .lockwaits import LockWaitOver

logger = logging.getLogger("taskcontrol")

#: What a database says of the call, whenever that is made. Not so ``ends.may_pass``, which takes
#: a ProgrammingError for a session that a body has spoilt: here no body ever had one.
LASTING = (DataError, IntegrityError, ProgrammingError)


def is_away(error: Exception) -> bool:
    """Return whether it is the database's, and nothing is wrong with what it was asked."""
    return isinstance(error, DatabaseError) and not isinstance(error, LASTING)


def safely(call: Callable[[], Any], work: DatabaseWork) -> Any:
    """Run one piece of a thread's work; a failure is logged and ends nothing.

    Returns what ``call`` does, and False when it gave up on a lock, or for as long as the
    database is away.
    """
    try:
        with work.piece():
            return call()
    except LockWaitOver as over:
        logger.warning("%r gave up on a lock, and is tried again: %s", call, over)
        return False
    except Exception as error:
        away = is_away(error)
        what = "it is tried again" if away else "the worker goes on"
        logger.exception("%r failed in a worker's main process; %s.", call, what)
        connections[conf.DATABASE].close()
        return False if away else None
