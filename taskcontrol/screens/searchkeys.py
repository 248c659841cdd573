"""What each key of the search means: which tasks, and whether an index finds them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db import connections
from django.db.models import CharField, Exists, Q
from django.db.models.fields.json import KeyTransform
from django.db.models.functions import Right
from django.utils.translation import gettext as _

from ..arguments import TAG
from ..conf import conf
from ..dialect import DatabaseNow, compile_sql
from ..models import TaskType, Worker, seconds
from ..permissions import visible_to
from ..status import Status
from ..text import redact
from .ages import first_since
from .presentation import is_secret

#: Characters of the end of an error that a list reads to find its last line.
ERROR_TAIL = 300
#: Types whose tasks a part of a method finds.
MOST_METHODS = 50
#: An id of more digits would not fit into its column.
MOST_DIGITS = 18
#: Ten years.
MOST_SECONDS = 3650 * 86400
#: Names in the path to an argument.
MOST_PARTS = 10

#: Types that the ledger keeps as the text that a page shows.
_AS_TEXT = ("float", "decimal", "uuid", "complex", "date")

#: A place counted from the end, which not every database knows.
_FROM_BEHIND = re.compile(r"-\d+")
_AGE = re.compile(r"([<>])(\d{1,9}(?:\.\d{1,6})?)(s|m|min|h|d|w)", re.IGNORECASE)
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}

#: Where ``str.splitlines`` ends a line.
_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_BREAK = re.compile(f"[{_BREAKS}]")

Narrowing = Callable[[Any], Any]


class Mistake(Exception):
    """A search that cannot be understood, with the sentence that says why."""


class Asker(NamedTuple):
    """Who searches, and what he may know."""

    user: Any
    #: Sees the tasks of others.
    sees_all: bool
    #: Sees what is masked for others.
    sees_secrets: bool


class Meaning(NamedTuple):
    """Which tasks a part of the search leaves."""

    narrow: Narrowing
    indexed: bool = True
    note: str = ""
    #: What an index leaves before the rest is looked for.
    within: Q | None = None


def any_of(condition: Q, *, indexed: bool = True, note: str = "") -> Meaning:
    """Return the meaning of a plain condition."""
    return Meaning(lambda rows: rows.filter(condition), indexed, note)


def of_text(text: str, asker: Asker) -> Meaning:
    """Return what free text means: a key, the beginning of a method, or a part of a label.

    Each kind of key is probed by its own index, all in one statement. One condition over
    all of them would read the whole table. What the person does not see is not there.
    """
    text = text.strip()
    if not text:
        return any_of(Q())
    keys, label = _keys(text), Q(job_name__icontains=text)
    there = _are_there(keys, visible_to(asker.user))
    meant: list[Any] = [key for key, is_there in zip(keys, there, strict=True) if is_there]
    if not asker.sees_all:
        # The types tell of the methods of others.
        own = (
            Q.create(meant, connector=Q.OR) if meant else label | Q(method__startswith=text)
        )
        return any_of(own, indexed=bool(meant))
    methods, note = _methods(Q(method__startswith=text))
    if methods:
        meant.append(Q(method__in=methods))
    if meant:
        return any_of(Q.create(meant, connector=Q.OR), note=note)
    return any_of(label, indexed=False)


def _keys(text: str) -> list[Q]:
    keys = [
        Q(celery_task_id=text),
        Q(job_id=text),
        Q(batch_id=text),
        Q(document_name=text),
        Q(event=text),
        Q(method=text),
    ]
    return [Q(pk=int(text)), *keys] if _is_key(text) else keys


def _are_there(keys: Sequence[Q], rows: Any) -> list[bool]:
    asked = [compile_sql(Exists(rows.filter(key)), conf.DATABASE) for key in keys]
    sql = ", ".join(sql for sql, _params in asked)
    params = [one for _sql, given in asked for one in given]
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        return list(map(bool, cursor.fetchone()))


def _methods(condition: Q) -> tuple[list[str], str]:
    """Types are few, and hold every method with work: a part becomes exact values."""
    named = TaskType.objects.filter(condition).order_by("method")
    found = list(named.values_list("method", flat=True)[: MOST_METHODS + 1])
    if len(found) <= MOST_METHODS:
        return found, ""
    note = _("More than %(most)s methods match; the tasks of the first %(most)s are shown.")
    return found[:MOST_METHODS], note % {"most": MOST_METHODS}


def _is_key(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _id(value: str, asker: Asker) -> Meaning:
    if not (value.isascii() and value.isdigit()):
        raise Mistake(_("id:%(value)s is no number.") % {"value": value})
    return any_of(Q(pk=int(value)) if _is_key(value) else Q(pk=-1))


def _method(value: str, asker: Asker) -> Meaning:
    parts = Q(method__startswith=value) | Q(method__endswith=f".{value}")
    if not asker.sees_all:
        return any_of(parts, indexed=False)
    methods, note = _methods(parts)
    return any_of(Q(method__in=methods or [value]), note=note)


def _status(value: str, asker: Asker) -> Meaning:
    if value.lower() == "stopping":
        return Meaning(lambda rows: rows.stopping())
    for status in Status:
        if value.lower() == status.lower():
            return any_of(Q(status=status))
    told = _("There is no status %(value)s. There are: %(known)s.")
    known = ", ".join([*Status.values, "stopping"])
    raise Mistake(told % {"value": value, "known": known})


def _queue(value: str, asker: Asker) -> Meaning:
    return any_of(Q(queue=value), indexed=False)


def _worker(value: str, asker: Asker) -> Meaning:
    named = Q(hostname=value) | Q(hostname__endswith=f"@{value}")
    named |= Q(hostname__startswith=f"{value}@")
    workers = list(Worker.objects.filter(named).values_list("pk", flat=True)[:200])
    if not workers and asker.sees_all:
        raise Mistake(_("There is no worker %(value)s.") % {"value": value})
    return any_of(Q(worker__in=workers), indexed=False)


def _user(value: str, asker: Asker) -> Meaning:
    """Who sees only own tasks learns nothing of the names of others."""
    if not asker.sees_all:
        mine = value == asker.user.get_username()
        return any_of(Q(created_by=asker.user.pk) if mine else Q(pk=-1))
    model = get_user_model()
    named = model._default_manager.filter(**{model.USERNAME_FIELD: value})
    key = named.values_list("pk", flat=True).first()
    if key is None:
        raise Mistake(_("There is no user %(value)s.") % {"value": value})
    return any_of(Q(created_by=key))


def _document(value: str, asker: Asker) -> Meaning:
    """``Model/key``, or a key alone, which may hold a slash itself."""
    kind, slash, name = value.partition("/")
    if not slash:
        return any_of(Q(document_name=value))
    of_kind = Q(document_type__iexact=kind) | Q(document_type__iendswith=f".{kind}")
    return any_of(Q(document_name=value) | Q(document_name=name) & of_kind)


def _error(value: str, asker: Asker) -> Meaning:
    """Only the last line is shown to everybody, so only that is searched for them."""
    narrow = _in_error if asker.sees_secrets else _in_last_line
    return Meaning(
        lambda rows: narrow(rows, value),
        indexed=False,
        within=Q(status__in=(Status.FAILED, Status.CANCELED)),
    )


def _in_error(rows: Any, value: str) -> Any:
    return rows.filter(error_message__icontains=value)


def _in_last_line(rows: Any, value: str) -> Any:
    """Leave those in whose last line ``value`` stands, as a list shows that line.

    A value of two lines would tell the line before it.
    """
    if _BREAK.search(value):
        return rows.none()
    tail = Right("error_message", ERROR_TAIL, output_field=CharField())
    pattern = rf"{re.escape(value)}[^{_BREAKS}]*[\s{_BREAKS}]*$"
    return rows.alias(tc_tail=tail).filter(tc_tail__iregex=pattern)


def _age(value: str, asker: Asker) -> Meaning:
    found = _AGE.fullmatch(value)
    if found is None or (age := float(found[2]) * _UNITS[found[3].lower()]) > MOST_SECONDS:
        told = _("age%(value)s is no time: age>90s, age>5m, age<2h, age>7d, age>4w.")
        raise Mistake(told % {"value": value})
    since, first = DatabaseNow() - seconds(age), first_since(age)
    if found[1] == "<":
        return any_of(Q(pk__gte=first, created_at__gte=since))
    return any_of(Q(pk__lt=first, created_at__lt=since))


def of_argument(path: Sequence[str], value: str, asker: Asker) -> Meaning:
    """Return the tasks with this argument: a number or a text, as it was given."""
    if not all(path):
        raise Mistake(_("args. needs the name of an argument: args.customer.id:12."))
    if len(path) > MOST_PARTS or any(map(_FROM_BEHIND.fullmatch, path)):
        told = _(
            "args. takes at most %(most)s names, and places from 0 on: args.items.0:12."
        )
        raise Mistake(told % {"most": MOST_PARTS})
    masked = TAG in path or any(map(is_secret, path)) or redact(value) != value
    if masked and not asker.sees_secrets:
        told = _("args.%(path)s is masked, and is searched by those who see it.")
        raise Mistake(told % {"path": ".".join(path)})
    place: Any = "arguments"
    for name in path:
        place = KeyTransform(name, place)
    # A date or a Decimal is stored as {"tc": [its type, its text]}; bytes are masked.
    wanted = Q(tc_found=value) | Q(tc_found__tc__1=value, tc_found__tc__0__in=_AS_TEXT)
    for plain in _plain(value):
        wanted |= Q(tc_found=plain)
    return Meaning(lambda rows: rows.alias(tc_found=place).filter(wanted), indexed=False)


def _plain(value: str) -> list[Any]:
    """Return the number or the truth value that a text may stand for."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return []
    finite = isinstance(found, bool | int) or (
        isinstance(found, float) and math.isfinite(found)
    )
    return [found] if finite else []


def _whole(column: str) -> Callable[[str, Asker], Meaning]:
    return lambda value, asker: any_of(Q(**{column: value}))


#: By name; ``args`` takes a path and has its own way.
KEYS: dict[str, Callable[[str, Asker], Meaning]] = {
    "method": _method,
    "queue": _queue,
    "status": _status,
    "batch": _whole("batch_id"),
    "worker": _worker,
    "user": _user,
    "doc": _document,
    "args": _queue,
    "error": _error,
    "age": _age,
    "id": _id,
    "job": _whole("job_id"),
    "event": _whole("event"),
    "schedule": _whole("schedule"),
}
