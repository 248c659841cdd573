"""Writes arguments as JSON that a person can read and change, and reads them back as types."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.dateparse import parse_duration
from django.utils.duration import duration_string

from .exceptions import InvalidCall
from .givenjson import given_json

#: A type that JSON lacks is an object with one key: {"$date": "2026-01-31"}.
MARK = "$"
#: One key with a text, as it is indented; no text of JSON holds a line break itself.
_SHORT = re.compile(r'\{\n\s*("\$\w+": "(?:[^"\\\n]|\\.)*")\n\s*\}')


def as_text(value: Any) -> str:
    """Return ``value``, arguments with their types, as JSON to edit."""
    text = json.dumps(_written(value), indent=2, ensure_ascii=False)
    return _SHORT.sub(r"{\1}", text)


def from_text(text: str) -> dict[str, Any]:
    """Return the arguments that ``as_text`` wrote and a person may have changed.

    Raises InvalidCall with the place and the reason for what cannot be read.
    """
    data = given_json(text, constant=_no_constant)
    if not isinstance(data, dict):
        raise InvalidCall('Arguments are an object of names and values: {"name": 1}.')
    # At the top stand names of parameters, whatever they begin with.
    return {name: _read(item, name) for name, item in data.items()}


def _no_constant(name: str) -> Any:
    raise InvalidCall(f'Write {{"$float": "{name.lower()}"}} for {name}: JSON has none.')


def _written(value: Any, *, top: bool = True) -> Any:
    if isinstance(value, dict):
        plain = {key: _written(item, top=False) for key, item in value.items()}
        escaped = not top and len(plain) == 1 and next(iter(plain)).startswith(MARK)
        return {"$dict": plain} if escaped else plain
    if isinstance(value, list):
        return [_written(item, top=False) for item in value]
    if isinstance(value, tuple | set | frozenset):
        items = sorted(value, key=repr) if not isinstance(value, tuple) else value
        name = type(value).__name__
        return {f"${name}": [_written(item, top=False) for item in items]}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    write = _WRITERS.get(type(value))
    return value if write is None else write(value)


def _read(data: Any, place: str) -> Any:
    if isinstance(data, list):
        return [_read(item, f"{place}[{n}]") for n, item in enumerate(data)]
    if not isinstance(data, dict):
        return data
    if len(data) == 1:
        ((name, item),) = data.items()
        if name == "$dict" and isinstance(item, dict):
            return {key: _read(one, f"{place}[{key!r}]") for key, one in item.items()}
        if name.startswith(MARK):
            return _marked(name, item, place)
    return {key: _read(item, f"{place}[{key!r}]") for key, item in data.items()}


def _marked(name: str, item: Any, place: str) -> Any:
    if name in _MANY:
        if not isinstance(item, list):
            raise InvalidCall(f"{place}: {name} takes a list, not {item!r}.")
        items = [_read(one, f"{place}[{n}]") for n, one in enumerate(item)]
        try:
            return _MANY[name](items)
        except TypeError as error:
            raise InvalidCall(f"{place}: {error}.") from None
    read = _READERS.get(name)
    if read is None:
        known = ", ".join(sorted({*_READERS, *_MANY, "$dict"}))
        raise InvalidCall(f"{place}: {name!r} names no type; there are {known}.")
    if not isinstance(item, str):
        raise InvalidCall(f"{place}: {name} takes a text, not {item!r}.")
    try:
        return read(item)
    except (ValueError, ArithmeticError, LookupError, OSError):
        raise InvalidCall(f"{place}: {item!r} is no {name.removeprefix(MARK)}.") from None


def _write_text(value: str) -> Any:
    """JSON writes any text but half of a surrogate pair, which no page can send back."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
        return {"$text": base64.b64encode(raw).decode()}
    return value


def _write_datetime(value: dt.datetime) -> Any:
    zone = getattr(value.tzinfo, "key", None)
    return {"$datetime": f"{value.isoformat()}{f'[{zone}]' if zone else ''}"}


def _read_datetime(text: str) -> dt.datetime:
    """Read a time; of one with a zone the wall's time counts, and the offset tells the fold."""
    written, _, zone = text.partition("[")
    value = dt.datetime.fromisoformat(written.strip())
    if not zone:
        return value
    placed = value.replace(tzinfo=ZoneInfo(zone.rstrip("]")))
    later = placed.replace(fold=1)
    offset = value.utcoffset()
    return later if placed.utcoffset() != offset == later.utcoffset() else placed


def _read_duration(text: str) -> dt.timedelta:
    found = parse_duration(text)
    if found is None:
        raise ValueError(text)
    return found


def _read_decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(text) from None


_WRITERS: dict[type, Callable[[Any], Any]] = {
    str: _write_text,
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode()},
    Decimal: lambda value: {"$decimal": str(value)},
    UUID: lambda value: {"$uuid": str(value)},
    complex: lambda value: {"$complex": repr(value)},
    dt.datetime: _write_datetime,
    dt.date: lambda value: {"$date": value.isoformat()},
    dt.time: lambda value: {"$time": value.isoformat()},
    dt.timedelta: lambda value: {"$timedelta": duration_string(value)},
}

_MANY: dict[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
}

_READERS: dict[str, Callable[[str], Any]] = {
    "$text": lambda text: base64.b64decode(text).decode("utf-8", "surrogatepass"),
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$decimal": _read_decimal,
    "$uuid": UUID,
    "$complex": complex,
    "$float": float,
    "$datetime": _read_datetime,
    "$date": dt.date.fromisoformat,
    "$time": dt.time.fromisoformat,
    "$timedelta": _read_duration,
}
