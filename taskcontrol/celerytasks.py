"""Calls a target; a Celery task runs with a request of its own, and its retries are ours."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from celery import Task as CeleryTask
from celery._state import _task_stack
from celery.exceptions import MaxRetriesExceededError, Retry as CelerysRetry
from django.utils import timezone

from .arguments import encode
from .context import current_task
from .models import TaskLog


class RetryAsked(CelerysRetry):
    """Raised instead of Celery's Retry: the next attempt goes through the ledger.

    One of its kind, which Celery's ``autoretry_for`` and a task's own ``except`` let pass.
    """

    def __init__(
        self, delay: float, cause: BaseException | None, arguments: dict[str, Any] | None
    ) -> None:
        super().__init__(f"The task asked for another attempt in {delay:g} s.")
        self.delay, self.cause, self.arguments = delay, cause, arguments


def call(target: Callable[..., Any], arguments: dict[str, Any], row: TaskLog) -> Any:
    """Call ``target`` with ``arguments`` as the body of ``row``."""
    if not isinstance(target, CeleryTask):
        return target(**arguments)
    with _request(target, arguments, row):
        return target.run(**arguments)


@contextmanager
def _request(task: Any, arguments: dict[str, Any], row: TaskLog) -> Iterator[None]:
    _take_over_retries(task)
    _task_stack.push(task)
    task.push_request(
        id=row.celery_task_id,
        root_id=row.celery_task_id,
        args=(),
        kwargs=arguments,
        retries=row.retry_count,
        called_directly=False,
        is_eager=False,
        timelimit=(None, row.timeout),
        delivery_info={"routing_key": row.queue, "exchange": "", "priority": None},
        callbacks=None,
        errbacks=None,
        chain=None,
        chord=None,
        group=None,
    )
    try:
        yield
    finally:
        task.pop_request()
        _task_stack.pop()


def _take_over_retries(task: Any) -> None:
    """Let ``self.retry()`` of a body of ours raise RetryAsked.

    Celery's own would publish a message that no row knows of. Outside our bodies, as when
    the task is sent with ``delay()``, it stays Celery's.
    """
    if "retry" not in vars(task):
        task.retry = partial(_retry, task, task.retry)


def _retry(task: Any, celerys: Callable[..., Any], *args: Any, **options: Any) -> Any:
    current = current_task()
    if current is None or task.request.id != current.row.celery_task_id:
        return celerys(*args, **options)
    return _ask(task, current.row, *args, **options)


def _ask(  # noqa: PLR0913, PLR0917 - the signature of Celery's Task.retry
    task: Any,
    row: TaskLog,
    args: Any = None,
    kwargs: Any = None,
    exc: BaseException | None = None,
    throw: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
    eta: dt.datetime | None = None,
    countdown: float | None = None,
    max_retries: int | None = None,
    **_options: Any,
) -> RetryAsked:
    limit = row.max_retries if max_retries is None else min(max_retries, row.max_retries)
    if row.retry_count >= limit:
        if exc is not None:
            raise exc
        raise MaxRetriesExceededError(
            f"Can't retry {task.name}[{row.celery_task_id}]: {limit} retries were made.",
        )
    if eta is not None:
        countdown = max((eta - timezone.now()).total_seconds(), 0)
    delay = task.default_retry_delay if countdown is None else countdown
    asked = RetryAsked(float(delay or 0), exc, _changed(task, args, kwargs))
    if throw:
        raise asked from exc
    return asked


def _changed(task: Any, args: Any, kwargs: Any) -> dict[str, Any] | None:
    if args is None and kwargs is None:
        return None
    bound = inspect.signature(task.run).bind(*(args or ()), **(kwargs or {}))
    given = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(name, {})
    return dict(encode(given))
