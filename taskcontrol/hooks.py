"""The site's own functions before and after each body: ``BEFORE_JOB`` and ``AFTER_JOB``."""

from __future__ import annotations

import logging
from typing import Any

from . import offers
from .arguments import decode
from .conf import conf
from .models import TaskLog

logger = logging.getLogger("taskcontrol")

#: What a hook sees as ``transaction_type``: it runs for a task and for no request.
JOB = "job"


def before(row: TaskLog) -> None:
    """Call the hooks before a body; one that raises fails the task, whose body stays out."""
    for path in conf.BEFORE_JOB:
        offers.call(path, {**_call_of(row), "transaction_type": JOB})


def after(row: TaskLog, result: Any, *, by_hand: bool = False) -> None:
    """Call the hooks after an end; one that raises is logged and changes nothing.

    Whatever it raises: no worker's child ends by it. ``by_hand``: they run in the process of
    somebody who may press Ctrl-C.
    """
    for path in conf.AFTER_JOB:
        try:
            offers.call(path, {**_call_of(row), "result": result})
        except BaseException as error:
            if by_hand and isinstance(error, KeyboardInterrupt):
                raise
            logger.exception("%s of AFTER_JOB failed after task %s.", path, row.pk)


def _call_of(row: TaskLog) -> dict[str, Any]:
    """Each hook gets arguments of its own: what it does to them reaches nobody else."""
    return {"method": row.method, "kwargs": decode(row.arguments)}
