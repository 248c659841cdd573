"""Cron expressions as cron reads them: checked, written out, and their next times by zone."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from .exceptions import InvalidCall, InvalidCron

#: What cron's shorthands and the words of the seeds stand for.
NAMED = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "midnight": "0 0 * * *",
    "weekly": "0 0 * * 0",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
    "annual": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
}


class Field(NamedTuple):
    """One of the five fields: its range, its names, and the characters that fit."""

    label: str
    least: int
    most: int
    longest: int
    names: tuple[str, ...] = ()


MONTHS = (
    "JAN",
    "FEB",
    "MAR",
    "APR",
    "MAY",
    "JUN",
    "JUL",
    "AUG",
    "SEP",
    "OCT",
    "NOV",
    "DEC",
)
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
#: How much text django-celery-beat stores of each.
FIELDS = (
    Field("minute", 0, 59, 240),
    Field("hour", 0, 23, 96),
    Field("day of the month", 1, 31, 124),
    Field("month", 1, 12, 64, MONTHS),
    Field("day of the week", 0, 7, 64, DAYS),
)
_PART = re.compile(r"(\*|[0-9A-Z]+)(?:-([0-9A-Z]+))?(?:/([0-9]+))?")


@lru_cache(maxsize=1024)
def written_out(expression: str) -> str:
    """Return a cron expression as five plain fields that every reader of cron takes.

    Names become numbers, Sunday is 0, and ``a/n``, every n from a on, becomes
    ``a-max/n``. Takes the shorthands of cron (``@daily``) and the words of ``NAMED`` too.
    Raises InvalidCron with a sentence for everything that is wrong or never comes.
    """
    text = " ".join(str(expression).split())
    fields = NAMED.get(text.removeprefix("@").lower(), text).upper().split()
    if len(fields) != len(FIELDS):
        raise InvalidCron(
            expression,
            f"it has {len(fields)} fields and not five: minute, hour, day of the month, "
            "month, day of the week",
        )
    plain = " ".join(
        _field(expression, field, given)
        for field, given in zip(FIELDS, fields, strict=True)
    )
    try:
        next(CronSim(plain, dt.datetime(2024, 1, 1)))  # noqa: DTZ001 - in any zone
    except (CronSimError, StopIteration):
        raise InvalidCron(expression, "there is no such day in any year") from None
    return plain


def next_after(plain: str, zone: str, moment: dt.datetime) -> dt.datetime | None:
    """Return the first time of a written-out expression after ``moment``, in UTC.

    By the clock of ``zone``, as cron does it: a run at a fixed time that falls into the
    hour that is left out comes right after it, and one in the hour that comes twice comes
    once. Where minute or hour begin with a star, the runs follow the clock as it goes.
    """
    times = (found.astimezone(dt.UTC) for found in _times(plain, zone, moment))
    return next((found for found in times if found > moment), None)


def last_until(plain: str, zone: str, moment: dt.datetime) -> dt.datetime | None:
    """Return the last time of a written-out expression that is not after ``moment``."""
    soon = moment + dt.timedelta(minutes=1)
    times = (
        found.astimezone(dt.UTC) for found in _times(plain, zone, soon, backwards=True)
    )
    return next((found for found in times if found <= moment), None)


def known_zone(name: str) -> str:
    """Return the name of a time zone that this machine knows, or raise InvalidCall."""
    try:
        ZoneInfo(name)
    except (LookupError, OSError, TypeError, ValueError) as error:
        raise InvalidCall(
            f"There is no time zone {name!r}; names are like 'UTC' or 'Europe/Berlin'."
        ) from error
    return name


def _times(
    plain: str, zone: str, moment: dt.datetime, *, backwards: bool = False
) -> Iterator[dt.datetime]:
    # The first few suffice: only one and the same hour can come twice.
    local = moment.astimezone(ZoneInfo(zone))
    return itertools.islice(CronSim(plain, local, reverse=backwards), 150)


def _field(expression: str, field: Field, given: str) -> str:
    parts = [_part(expression, field, part) for part in given.split(",")]
    text = ",".join(parts)
    if len(text) > field.longest:
        raise InvalidCron(
            expression,
            f"the {field.label} takes {len(text)} characters; at most {field.longest} fit",
        )
    return text


def _part(expression: str, field: Field, part: str) -> str:
    found = _PART.fullmatch(part)
    if found is None or (found[1] == "*" and found[2]):
        raise InvalidCron(
            expression,
            f"{part!r} is no {field.label}: write *, a number, a range like 1-5, or one "
            "of these with a step like /15, and several with commas",
        )
    first, last, step = found.groups()
    if step is not None and int(step) < 1:
        raise InvalidCron(expression, f"the step of {part!r} must be 1 or more")
    if first == "*":
        return part
    begin = _number(expression, field, first)
    end = _number(expression, field, last) if last else None
    if step is not None and end is None:
        end = min(field.most, 6) if field.names is DAYS else field.most
        begin = begin % 7 if field.names is DAYS else begin
    if end is None:
        return str(begin % 7 if field.names is DAYS else begin)
    return _range(expression, field, begin, end, int(step or 1))


def _range(expression: str, field: Field, begin: int, end: int, step: int) -> str:
    if end < begin:
        raise InvalidCron(
            expression,
            f"the {field.label} goes from {begin} back to {end}; write two parts",
        )
    if field.names is DAYS and end == 7:
        days = sorted({day % 7 for day in range(begin, end + 1, step)})
        return ",".join(map(str, days))
    return f"{begin}-{end}" + (f"/{step}" if step > 1 else "")


def _number(expression: str, field: Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.least
    if not text.isdigit() or not field.least <= int(text) <= field.most:
        raise InvalidCron(
            expression,
            f"the {field.label} {text} is not between {field.least} and {field.most}",
        )
    return int(text)
