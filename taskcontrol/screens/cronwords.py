"""Says when a schedule runs as a person would: "at 03:30 on Monday to Friday"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..wording import duration

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
#: Times of a day that are listed one by one.
MOST_LISTED = 6

_CRON = re.compile(r"(\S+ \S+ \S+ \S+ \S+) \(([^)]+)\)(.*)")
_EVERY = re.compile(r"every (\d+) s(.*)")


def in_words(timetable: str) -> str:
    """Return the text of a timetable in words; what has none stays as it is."""
    cron, every = _CRON.fullmatch(timetable), _EVERY.fullmatch(timetable)
    if every:
        return f"every {duration(int(every[1]))}{every[2]}"
    if cron is None:
        return timetable
    try:
        return f"{cron_in_words(cron[1])} ({cron[2]}){cron[3]}"
    except ValueError:
        return timetable


def cron_in_words(plain: str) -> str:
    """Return a written-out cron expression in words."""
    minute, hour, day, month, weekday = plain.split(" ")
    clock, days = _clock(minute, hour), _days(day, weekday)
    if not days and clock[3].isdigit():
        days = "every day"
    if month != "*":
        within = f" in {_listed(_named(month, 1, MONTHS))}"
        days = f"{days.replace(' of the month', '')}{within}".strip()
    return f"{clock} {days}".strip()


# The clock


def _clock(minute: str, hour: str) -> str:
    minutes, hours = _values(minute, 0, 59), _values(hour, 0, 23)
    if hour != "*" and len(minutes) * len(hours) <= MOST_LISTED:
        return f"at {_listed([f'{h:02}:{m:02}' for h in hours for m in minutes])}"
    within = _hours(hours, minutes)
    step = _step(minute, 60)
    if step:
        every = "every minute" if step == 1 else f"every {step} minutes"
        return f"{every}{within}"
    if len(hours) > 1 and len(minutes) == 1:
        return _hourly(hours, minutes[0], _step(hour, 24))
    past = _listed([f":{m:02}" for m in minutes])
    return f"at {past}{' of every hour' if _is_run(hours) else ''}{within}"


def _hourly(hours: Sequence[int], minute: int, step: int) -> str:
    at = f" at :{minute:02}" if minute else ""
    if step:
        return f"every {'hour' if step == 1 else f'{step} hours'}{at}"
    if _is_run(hours):
        return f"every hour from {hours[0]:02}:{minute:02} to {hours[-1]:02}:{minute:02}"
    return f"at {_listed([f'{h:02}:{minute:02}' for h in hours])}"


def _hours(hours: Sequence[int], minutes: Sequence[int]) -> str:
    """Return within which hours of the day, in front of which nothing more is said."""
    if len(hours) == 24:
        return ""
    if _is_run(hours):
        return f" from {hours[0]:02}:{minutes[0]:02} to {hours[-1]:02}:{minutes[-1]:02}"
    return f" in the hours of {_listed([f'{h:02}:00' for h in hours])}"


def _step(field: str, count: int) -> int:
    """Return every how many of ``count`` a field comes evenly, else 0."""
    values = _values(field, 0, count - 1)
    if len(values) < 2 or values[0] != 0:
        return 0
    step = values[1]
    return step if list(values) == list(range(0, count, step)) and count % step == 0 else 0


# The days


def _days(day: str, weekday: str) -> str:
    if len({one % 7 for one in _values(weekday, 0, 6)}) == len(DAYS):
        return _dates(day) if weekday.startswith("*") else ""
    dates, names = _dates(day), f"on {_listed(_named(weekday, 0, DAYS))}"
    if day == "*":
        return names
    # As cron has it: where a field begins with a star, a day must fit both.
    both = day.startswith("*") or weekday.startswith("*")
    return f"{dates}, if that is {names}" if both else f"{dates} and {names}"


def _dates(day: str) -> str:
    if day == "*":
        return ""
    values = _values(day, 1, 31)
    which = "day" if len(values) == 1 else "days"
    told = _runs([str(one) for one in values], values)
    if len(told) > MOST_LISTED:
        told = [f"{', '.join(told[:3])} … {told[-1]}"]
    return f"on {which} {_listed(told)} of the month"


def _named(field: str, least: int, names: Sequence[str]) -> list[str]:
    values = _values(field, least, least + len(names) - 1)
    if names is DAYS and values[0] == 0 and len(values) > 1:
        # The week begins on Monday: "Saturday and Sunday".
        values = [*values[1:], 7]
    return _runs([names[(one - least) % len(names)] for one in values], values)


def _runs(words: Sequence[str], values: Sequence[int]) -> list[str]:
    """Return the words with three or more neighbors as "first to last"."""
    parts: list[list[str]] = []
    for place, word in enumerate(words):
        if place and values[place] == values[place - 1] + 1:
            parts[-1].append(word)
        else:
            parts.append([word])
    told: list[str] = []
    for part in parts:
        told += [f"{part[0]} to {part[-1]}"] if len(part) > 2 else part
    return told


# Fields


def _values(field: str, least: int, most: int) -> list[int]:
    """Return every value of a written-out field, in order."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        begin, _, end = span.partition("-")
        first = least if span == "*" else int(begin)
        last = most if span == "*" else int(end or begin)
        found.update(range(first, last + 1, int(step or 1)))
    return sorted(found)


def _is_run(values: Sequence[int]) -> bool:
    return values[-1] - values[0] == len(values) - 1


def _listed(words: Sequence[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
