"""System checks of the dict ``TASKCONTROL``: unknown names, wrong types, impossible values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning as Caution
from django.utils.module_loading import import_string

from .. import side
from ..conf import Conf, conf, known_settings
from ..status import TERMINAL

#: The numbers that may be 0; all others must be above it.
MAY_BE_ZERO = frozenset(
    {
        "CANCEL_GRACE",
        "FAILED_LIMIT_PER_TYPE",
        "LOST_LIMIT",
        "RESEND_LIMIT",
        "STARVED_AFTER",
        "SCHEDULE_GRACE",
    }
)
#: What the options of a queue may be.
QUEUE_OPTIONS = frozenset({"background_workers", "max_queued_jobs", "timeout"})
#: What every screen of admin is, also that of a theme.
MODEL_ADMIN = "django.contrib.admin.options.ModelAdmin"
#: What the Redis client takes; Celery's ``redis+socket://`` is not among them.
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def check_settings() -> Iterator[CheckMessage]:
    """Yield what is wrong in ``TASKCONTROL``."""
    given = getattr(settings, "TASKCONTROL", None) or {}
    if not isinstance(given, dict):
        yield Error(
            f"TASKCONTROL must be a dict, not {given!r}.",
            hint='Write TASKCONTROL = {"NAME": value}.',
            id="taskcontrol.E001",
        )
        return
    wrong = False
    for name, value in given.items():
        if name not in known_settings():
            yield _unknown(name)
        elif (wanted := _what_is_wanted(name, value)) is not None:
            wrong = True
            yield Error(
                f"TASKCONTROL[{name!r}] must be {wanted}, not {value!r}.",
                hint=f"The default is {getattr(Conf, name)!r}.",
                id="taskcontrol.E002",
            )
    if not wrong:
        yield from _check_together()


def _unknown(name: object) -> CheckMessage:
    known = sorted(known_settings())
    near = get_close_matches(str(name).upper(), known, n=1)
    return Caution(
        f"TASKCONTROL has the unknown name {name!r}, which does nothing.",
        hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}.",
        id="taskcontrol.W001",
    )


def _what_is_wanted(name: str, value: Any) -> str | None:
    """Return what a setting must be, or None when it is."""
    fits, wanted = KINDS[Conf.__annotations__[name]]
    if not fits(value):
        return wanted
    fits, wanted = MEANINGS.get(name, (_is_anything, ""))
    if not fits(value):
        return wanted
    if _is_number(value) and value <= 0 and not (name in MAY_BE_ZERO and value == 0):
        return "0 or more" if name in MAY_BE_ZERO else "above 0"
    return None


def _check_together() -> Iterator[CheckMessage]:
    # The side connection adds an alias of its own while tasks run.
    databases = sorted(set(settings.DATABASES) - {side.ALIAS})
    if conf.DATABASE not in databases:
        yield Error(
            f'TASKCONTROL["DATABASE"] is {conf.DATABASE!r}, which DATABASES does not have.',
            hint=f"DATABASES has: {', '.join(databases)}.",
            id="taskcontrol.E003",
        )
    if conf.WORKER_LOST_AFTER < 2 * conf.HEARTBEAT_INTERVAL:
        yield Caution(
            f"A worker counts as lost after {conf.WORKER_LOST_AFTER:g} s but gives a sign of "
            f"life only every {conf.HEARTBEAT_INTERVAL:g} s: one that is a moment late loses "
            "its tasks.",
            hint="Let WORKER_LOST_AFTER be at least twice HEARTBEAT_INTERVAL.",
            id="taskcontrol.W002",
        )


def _is_anything(value: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    # A text is a sequence of texts to Python, and never meant as one.
    return isinstance(value, list | tuple | set | frozenset) and all(map(_is_text, value))


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and _is_number(one) for name, one in value.items()
    )


def _are_dicts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and isinstance(one, Mapping) for name, one in value.items()
    )


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


#: By what ``Conf`` says of a setting: the test and its words.
KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "bool": (_is_flag, "True or False"),
    "bool | None": (_or_none(_is_flag), "True, False or None"),
    "float": (_is_number, "a number"),
    "int": (_is_whole, "a whole number"),
    "int | None": (_or_none(_is_whole), "a whole number or None"),
    "str": (_is_text, "a text"),
    "str | None": (_or_none(_is_text), "a text or None"),
    "Mapping[str, Any]": (lambda value: isinstance(value, Mapping), "a dict"),
    "Mapping[str, float]": (_are_numbers, "a dict of numbers by name"),
    "Mapping[str, Mapping[str, Any]]": (_are_dicts, "a dict of dicts by name"),
    "Sequence[str]": (_are_texts, "a list of texts"),
}


def _are_queues(value: Mapping[str, Mapping[str, Any]]) -> bool:
    return all(
        name
        and "," not in name
        and options.keys() <= QUEUE_OPTIONS
        and all(_is_whole(number) and number > 0 for number in options.values())
        for name, options in value.items()
    )


def _are_days(value: Mapping[str, float]) -> bool:
    return value.keys() <= TERMINAL and all(0 <= days <= 3650 for days in value.values())


def _is_screen(path: str) -> bool:
    try:
        base = import_string(path)
    except ImportError:
        return False
    return isinstance(base, type) and any(
        f"{one.__module__}.{one.__qualname__}" == MODEL_ADMIN for one in base.__mro__
    )


def _is_redis(value: str | None) -> bool:
    return not value or value.startswith(REDIS_SCHEMES)


#: Of some settings more than the type can be wrong.
MEANINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "ADMIN_BASE": (
        _is_screen,
        "the dotted path of admin's ModelAdmin or of a class made of it",
    ),
    "QUEUES": (
        _are_queues,
        'queues by name, each {"timeout": seconds, "background_workers": processes, '
        '"max_queued_jobs": tasks}, whole numbers above 0 that may be left out',
    ),
    "REDIS_URL": (_is_redis, f"an address that begins with {' or '.join(REDIS_SCHEMES)}"),
    "RETENTION_DAYS": (_are_days, f"days from 0 to 3650 by {', '.join(sorted(TERMINAL))}"),
    "SECRET_NAMES": (all, "names that are not empty"),
}
