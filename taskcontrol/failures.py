"""What an exception means: the error that is kept, its reason, and when to try again."""

from __future__ import annotations

from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from . import backoff, conflicts
from .celerytasks import RetryAsked
from .conf import conf
from .errorclasses import matches
from .exceptions import (
    Discard,
    MethodNotAllowed,
    MethodNotFound,
    Retry,
    TaskCanceled,
    TimedOut,
)
from .models import TaskLog
from .text import clean, describe, safe_str


def failure_of(row: TaskLog, error: BaseException) -> dict[str, Any]:
    """Return what ``lifecycle.fail`` is to write of ``error``."""
    failure = {
        "error": _told(row, error),
        "reason": _reason(row, error),
        "retry_in": _retry_in(row, error),
    }
    if isinstance(error, RetryAsked) and error.arguments is not None:
        return {**failure, "arguments": error.arguments}
    return failure


def forced_timeout(row: TaskLog) -> dict[str, Any]:
    """Return the failure of an attempt whose process is ended at the hard time limit."""
    error = TimedOut(row.timeout)
    return {
        "error": f"TimedOut: {error} It did not stop when asked and was ended by force.",
        "reason": "timed out",
        "retry_in": _retry_in(row, error),
    }


def delay_before_retry(task: TaskLog) -> float:
    """Return the seconds from the failure of ``task`` to its next attempt."""
    return backoff.delay(task.retry_delay, task.options.get("backoff"), task.retry_count)


def _told(row: TaskLog, error: BaseException) -> str:
    if isinstance(error, MethodNotFound | MethodNotAllowed):
        # Where it was looked for tells nothing; the sentence does.
        text: str = clean(f"{type(error).__name__}: {error}", conf.ERROR_MAX_CHARS)
        return text
    if isinstance(error, SoftTimeLimitExceeded):
        return f"{describe(error)}\n{TimedOut.__name__}: {TimedOut(row.timeout)}"
    if isinstance(error, RetryAsked):
        return describe(error.cause or error)
    return describe(error)


def _reason(row: TaskLog, error: BaseException) -> str:
    match error:
        case TaskCanceled():
            # The row is Canceled or on its next attempt already, and this is not written,
            # unless a body raised it by itself.
            reason = "stopped"
        case SoftTimeLimitExceeded():
            reason = "timed out"
        case Discard():
            reason = f"discarded: {safe_str(error)}"
        case MemoryError():
            reason = _why_not_again(row, error) or "out of memory"
        case MethodNotFound():
            reason = "unknown method"
        case MethodNotAllowed():
            reason = "not allowed in this worker"
        case _:
            reason = _why_not_again(row, error) or _what_was_tried(error)
    return reason


def _retry_in(row: TaskLog, error: BaseException) -> float | None:
    """Return the seconds to the next attempt, None for none; the number decides elsewhere."""
    match error:
        case TaskCanceled() | Discard():
            return None
        case RetryAsked(delay=delay) | Retry(delay=float() | int() as delay):
            return delay
        case MethodNotFound() | MethodNotAllowed():
            return delay_before_retry(row)
    return None if _why_not_again(row, error) else delay_before_retry(row)


def _why_not_again(row: TaskLog, error: BaseException) -> str:
    """Return why the policies of ``row`` want no retry after ``error``; empty if they do."""
    if isinstance(error, Retry | RetryAsked):
        return ""
    name = type(error).__name__
    discard_on, retry_on = row.options.get("discard_on"), row.options.get("retry_on")
    if discard_on and _is_listed(error, discard_on):
        return f"discarded: {name} is in discard_on"
    if retry_on is not None and not _is_listed(error, retry_on):
        return f"not retried: {name} is not in retry_on"
    timed_out = isinstance(error, SoftTimeLimitExceeded | TimedOut)
    if row.options.get("retry_when_asked") and not timed_out:
        return "not retried: the task did not ask for it"
    return ""


def _is_listed(error: BaseException, paths: list[str]) -> bool:
    """A time limit is Celery's exception in the body and ours in the books."""
    timed_out = isinstance(error, SoftTimeLimitExceeded) and matches(TimedOut(0), paths)
    return timed_out or matches(error, paths)


def _what_was_tried(error: BaseException) -> str:
    if not conflicts.passes(error):
        return ""
    return f"run again in place {len(conflicts.PAUSES)} times"
