"""What the options of a task and of its type may be; a wrong value is refused at the call."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, TypedDict

from django.utils import timezone

from .backoff import completed
from .conf import known_queues
from .dialect import DatabaseNow
from .errorclasses import paths_of
from .exceptions import InvalidCall, UnknownQueue
from .rates import rate_of
from .status import TERMINAL

#: Takes the name of an option and its value; returns what is stored or raises InvalidCall.
Check = Callable[[str, Any], Any]

#: Exception classes or their dotted paths, one or several.
ErrorClasses = type[BaseException] | str | Iterable[type[BaseException] | str]
#: Seconds.
Duration = float | dt.timedelta

#: Ten years; more fits no database's integer for long.
MOST_SECONDS = 10 * 365 * 86400
MOST_RETRIES = 32767
MOST = 2**31 - 1
#: What every database and every time zone can write.
YEARS = range(1971, 9999)
PRIORITIES = range(-1000, 1001)
ON_LOST = ("rerun", "fail")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def known_queue(_name: str, value: Any) -> str:
    """Return the name of a queue that is declared."""
    if not isinstance(value, str) or value not in known_queues():
        raise UnknownQueue(value, known_queues())
    return value


def whole_seconds(name: str, value: Any) -> int:
    """Return a time limit in whole seconds."""
    seconds = _as_number(value)
    if seconds is None or not 1 <= seconds <= MOST_SECONDS:
        raise InvalidCall(
            f"{name} must be from 1 second to ten years (a number or a timedelta), not "
            f"{value!r}."
        )
    return round(seconds)


def duration(name: str, value: Any) -> float:
    """Return seconds, fractions included."""
    seconds = _as_number(value)
    if seconds is None or not 0 <= seconds <= MOST_SECONDS:
        raise InvalidCall(
            f"{name} must be seconds or a timedelta, not negative and at most ten years: "
            f"{value!r}."
        )
    return float(seconds)


def _as_number(value: Any) -> float | None:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def whole_number(least: int, most: int, note: str = "") -> Callable[[str, Any], int]:
    """Return the check for whole numbers in a range."""

    def check(name: str, value: Any) -> int:
        if (
            isinstance(value, int)
            and not isinstance(value, bool)
            and least <= value <= most
        ):
            return value
        raise InvalidCall(
            f"{name} must be a whole number from {least} to {most}{note}, not {value!r}."
        )

    return check


retries = whole_number(0, MOST_RETRIES)
priority = whole_number(PRIORITIES[0], PRIORITIES[-1], " (higher goes first)")
place = whole_number(-MOST, MOST)
limit = whole_number(0, MOST)


def moment(name: str, value: Any) -> Any:
    """Return a time to store; a duration counts from the database's now."""
    if isinstance(value, dt.timedelta):
        if abs(value.total_seconds()) > MOST_SECONDS:
            raise InvalidCall(f"{name} must lie within ten years, not {value!r}.")
        return DatabaseNow() + value
    if not isinstance(value, dt.datetime):
        raise InvalidCall(f"{name} must be a datetime or a timedelta, not {value!r}.")
    if timezone.is_naive(value):
        raise InvalidCall(
            f"{name}={value!r} has no time zone; use django.utils.timezone.now() + ... or "
            "timezone.make_aware()."
        )
    if not _has_a_year(value):
        raise InvalidCall(
            f"{name} must lie in the years {YEARS[0]} to {YEARS[-1]}, not {value!r}."
        )
    return value


def _has_a_year(value: dt.datetime) -> bool:
    """Return whether a time is one that every database and time zone can write."""
    try:
        return value.astimezone(dt.UTC).year in YEARS
    except OverflowError:
        return False


def label(longest: int) -> Callable[[str, Any], str]:
    """Return the check for names of at most ``longest`` characters."""

    def check(name: str, value: Any) -> str:
        if isinstance(value, Collection | bool) and not isinstance(value, str):
            raise InvalidCall(f"{name} must be a text, not {value!r:.100}.")
        text = str(value)
        if len(text) > longest:
            raise InvalidCall(
                f"{name} is {len(text)} characters long; at most {longest} fit."
            )
        if _UNSTORABLE.search(text):
            raise InvalidCall(f"{name}={text!r} holds characters that no database takes.")
        return text

    return check


def flag(name: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise InvalidCall(f"{name} must be True or False, not {value!r}.")
    return value


def on_lost(name: str, value: Any) -> str:
    """Return what becomes of a task whose process was lost."""
    if value not in ON_LOST:
        raise InvalidCall(f"{name} must be one of {', '.join(ON_LOST)}, not {value!r}.")
    return str(value)


def rate(name: str, value: Any) -> str:
    """Return a rate as it is stored: "10/m"; empty for none."""
    found = rate_of(value.strip()) if isinstance(value, str) else None
    if found is None and value != "":
        raise InvalidCall(
            f"{name} must be a number of tasks for each second, minute, hour or day, "
            f'"10/s", "10/m", "10/h" or "10/d", from 1 to a million, or "" for none, not '
            f"{value!r}."
        )
    return str(found or "")


def backoff(name: str, value: Any) -> Any:
    """Return how delays grow from retry to retry: a complete dict, or False for not."""
    try:
        return completed(value)
    except ValueError as error:
        raise InvalidCall(f"{name} must be {error}.") from error


def error_classes(name: str, value: Any) -> list[str]:
    """Return the dotted paths of one or several exception classes."""
    try:
        return paths_of(value)
    except ValueError as error:
        raise InvalidCall(f"{name} must be {error}.") from error


def retention(name: str, value: Any) -> dict[str, float | None]:
    """Return the days for which ended tasks are kept, by status; None means for ever."""
    if isinstance(value, Mapping) and all(
        status in TERMINAL and (days is None or _are_days(days))
        for status, days in value.items()
    ):
        return dict(value)
    raise InvalidCall(
        f"{name} must be days by {', '.join(sorted(TERMINAL))}, 0 to 3650 or None for ever: "
        f'{{"Finished": 7}}, not {value!r}.'
    )


def _are_days(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= MOST_SECONDS / 86400


def optional(check: Callable[[str, Any], Any], name: str, value: Any) -> Any:
    """Return None for None, else what ``check`` returns."""
    return None if value is None else check(name, value)


#: The options that ``@task`` and ``declare_type`` take, columns of TaskType, and their checks.
DECLARABLE: dict[str, Callable[[str, Any], Any]] = {
    "atomic": flag,
    "backoff": backoff,
    "concurrency_limit": limit,
    "description": label(300),
    "discard_on": error_classes,
    "max_retries": retries,
    "on_lost": on_lost,
    "one_per_document": flag,
    "owner_may_cancel": flag,
    "owner_may_retry": flag,
    "priority": priority,
    "queue": known_queue,
    "rate_limit": rate,
    "retention_days": retention,
    "retry_delay": duration,
    "retry_on": error_classes,
    "store_celery_result": flag,
    "timeout": whole_seconds,
}


class TypeOptions(TypedDict, total=False):
    """The same for type checkers; None means not said."""

    atomic: bool | None
    backoff: bool | Mapping[str, Any] | None
    concurrency_limit: int | None
    description: str | None
    discard_on: ErrorClasses | None
    max_retries: int | None
    on_lost: Literal["rerun", "fail"] | None
    one_per_document: bool | None
    owner_may_cancel: bool | None
    owner_may_retry: bool | None
    priority: int | None
    queue: str | None
    rate_limit: str | None
    retention_days: Mapping[str, float | None] | None
    retry_delay: Duration | None
    retry_on: ErrorClasses | None
    store_celery_result: bool | None
    timeout: Duration | None
