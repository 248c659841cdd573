"""Ends of tasks as results of Celery too, for code that asks ``AsyncResult``."""

from __future__ import annotations

from typing import Any

from celery import states
from celery.app.task import Context

from .celeryapp import project_app
from .models import Announcement, TaskLog
from .status import Status
from .tasktypes import defaults_of
from .tolderrors import error_of


def tell_celery(task: TaskLog, news: Announcement) -> None:
    """Store an end in Celery's result backend, if the task's type wants that.

    ``AsyncResult(task.celery_task_id)`` then knows it. Each attempt has an id of its own; a
    failure that is retried is stored as RETRY.
    """
    ended = news.new in {Status.FINISHED, Status.FAILED, Status.CANCELED}
    if not ended or news.old == news.new or not task.celery_task_id:
        return
    if task.status != news.new or not defaults_of(task.method).get("store_celery_result"):
        return
    state, result = _as_celery_has_it(task, news)
    project_app().backend.store_result(
        task.celery_task_id,
        result,
        state,
        traceback=task.error_message or None,
        request=Context(task=task.method, children=[]),
    )


def _as_celery_has_it(task: TaskLog, news: Announcement) -> tuple[str, Any]:
    if news.new == Status.FINISHED:
        return states.SUCCESS, task.result
    if news.new == Status.CANCELED:
        return states.REVOKED, _as_error(
            "celery.exceptions", "TaskRevokedError", "canceled"
        )
    error = error_of(task.error_message, task.ended_reason)
    stored = _as_error(error.kind.__module__, error.kind.__qualname__, error.said)
    return states.RETRY if news.retry_due else states.FAILURE, stored


def _as_error(module: str, name: str, said: str) -> dict[str, Any]:
    """Return an exception in the form in which Celery stores one as JSON."""
    return {"exc_type": name, "exc_message": [said], "exc_module": module}
