"""Reads the schedules of the settings, ``TASKCONTROL["SCHEDULES"]``, as the seeds write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from django.conf import settings

from .conf import conf
from .cron import known_zone, written_out
from .exceptions import InvalidCall
from .timetables import Cron, Every, Timetable, valid_interval

#: The keys beside "cron", each with the ending for the queue long.
ALL, CRON, LONG = "all", "cron", "_long"
KEYS = ("all", "hourly", "daily", "weekly", "monthly", "yearly", "annual")
#: How long a name may be in django-celery-beat.
NAME_MAX = 200


class Entry(NamedTuple):
    """One method under one key."""

    name: str
    timetable: Timetable
    call: Mapping[str, Any]


def schedules_of_settings() -> tuple[list[Entry], list[str]]:
    """Return the schedules that the settings declare, and what is wrong with the others."""
    found: dict[str, Entry] = {}
    wrong: list[str] = []
    for key, expression, method in _lines(conf.SCHEDULES, wrong):
        where = f'TASKCONTROL["SCHEDULES"]: {key}'
        try:
            entry = _entry(expression, method, long=key.endswith(LONG))
        except InvalidCall as error:
            wrong.append(f"{where}: {error}")
        else:
            # Listed twice, it would run twice.
            found.setdefault(entry.name, entry)
    return list(found.values()), wrong


def _lines(given: Mapping[str, Any], wrong: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield each method with the key and the expression that it stands under."""
    for key, value in given.items():
        if key == CRON and isinstance(value, Mapping):
            for expression, methods in value.items():
                for method in _methods(f"{key}: {expression}", methods, wrong):
                    yield key, str(expression), method
        elif str(key).removesuffix(LONG) in KEYS:
            for method in _methods(str(key), value, wrong):
                yield str(key), str(key).removesuffix(LONG), method
        elif key == CRON:
            wrong.append(
                'TASKCONTROL["SCHEDULES"]: cron must be a dict of expressions, each with '
                f"its list of methods, not {value!r}."
            )
        else:
            wrong.append(
                f'TASKCONTROL["SCHEDULES"]: there is no key {key!r}; there are: cron, '
                f"{', '.join(KEYS)}, and each but cron with {LONG}."
            )


def _methods(where: str, value: Any, wrong: list[str]) -> Iterator[str]:
    for method in value if isinstance(value, list | tuple) else [value]:
        if isinstance(method, str) and "." in method:
            yield method
        else:
            wrong.append(
                f'TASKCONTROL["SCHEDULES"]: {where}: there must be a list of dotted paths, '
                f"not {method!r}."
            )


def _entry(expression: str, method: str, *, long: bool) -> Entry:
    word = expression.strip()
    if word == ALL:
        timetable: Timetable = Every(valid_interval(conf.SCHEDULER_INTERVAL))
    else:
        timetable = Cron(written_out(word), known_zone(settings.TIME_ZONE))
    word = "yearly" if word == "annual" else word
    key = word + LONG if long else word
    call = {"method": method, **({"queue": "long"} if long else {})}
    return Entry(_named(method, key), timetable, call)


def _named(method: str, key: str) -> str:
    """Return a name that is the same at every deploy, and unique."""
    room = NAME_MAX - len(key) - 3
    if room < 20 or len(method) > room:
        mark = blake2b(f"{method} {key}".encode(), digest_size=4).hexdigest()
        return f"{method[-150:]} ({key[:30]}) {mark}"
    return f"{method} ({key})"
