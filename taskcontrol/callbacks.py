"""Calls what a task wants called when it has ended: ``on_success`` and ``on_failure``."""

from __future__ import annotations

import logging
from typing import Any

from . import interrupts, offers
from .context import on_behalf_of
from .history import record
from .models import Announcement, TaskEvent, TaskLog
from .status import Status
from .tolderrors import error_of

logger = logging.getLogger("taskcontrol")

#: The option that is called at each end.
CALLED_AT = {Status.FINISHED: "on_success", Status.FAILED: "on_failure"}


def tell_callbacks(task: TaskLog, news: Announcement) -> None:
    """Call the callback of an end, as the creator; a failure that is retried is no end.

    What it raises stands on the task's page and in the log, and changes nothing.
    """
    option = CALLED_AT.get(Status(news.new))
    path = task.options.get(option) if option and news.old != news.new else None
    if path is None or news.retry_due:
        return
    given: dict[str, Any] = {"job": task}
    if option == "on_failure":
        # The row forgets its error when it is retried by hand.
        error = error_of(task.error_message or news.error, task.ended_reason)
        given |= {
            "exc_type": error.kind,
            "exc_value": error.said,
            "traceback": error.traceback,
        }
    try:
        with on_behalf_of(task.runs_as):
            offers.call(path, given)
    except BaseException as error:
        if interrupts.process_must_go():
            raise  # told again by another process
        logger.exception("%s of task %s failed: %s.", option, task.pk, path)
        detail = f"{option} {path}: {type(error).__name__}: {error}"
        record([task], TaskEvent.Kind.CALLBACK, detail=detail)
