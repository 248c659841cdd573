"""Turns arguments into JSON and back into the types that they went in with."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from .exceptions import ArgumentsNotSerializable

#: A dict with this single key is a tagged value: {"tc": [tag, value]}.
TAG = "tc"
#: Levels of nesting, counted as they are stored; MariaDB's JSON takes 32.
MAX_DEPTH = 28
#: Python writes no longer numbers as text: 4,300 digits.
MAX_BITS = 14_000

_write = json.JSONEncoder(ensure_ascii=False).encode
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def encode(value: Any, path: str = "arguments") -> Any:
    """Return ``value`` as plain JSON data.

    Raises ArgumentsNotSerializable, naming the place, for anything that would not come
    back as the same type.
    """
    return _encode(value, path, 0)


def decode(data: Any) -> Any:
    """Return what ``encode`` was given."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if data.keys() == {TAG}:
        tag, value = data[TAG]
        return _DECODERS[tag](value)
    return {key: decode(item) for key, item in data.items()}


def size_of(data: Any) -> int:
    """Return the bytes that encoded data takes."""
    return len(_write(data).encode("utf-8", "surrogatepass"))


def _encode(value: Any, path: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ArgumentsNotSerializable(path, f"it is nested deeper than {MAX_DEPTH}")
    kind = type(value)
    if kind in _PLAIN:
        return value
    encoder = _ENCODERS.get(kind)
    if encoder is None:
        raise ArgumentsNotSerializable(
            path, f"its type is {kind.__module__}.{kind.__qualname__}"
        )
    return encoder(value, path, depth + 1)


def _encode_int(value: int, path: str, depth: int) -> int:
    if value.bit_length() > MAX_BITS:
        raise ArgumentsNotSerializable(path, "the number has more than 4,200 digits")
    return value


def _encode_str(value: str, path: str, depth: int) -> Any:
    if _UNSTORABLE.search(value):
        raw = value.encode("utf-8", "surrogatepass")
        return {TAG: ["str", base64.b64encode(raw).decode()]}
    return value


def _encode_float(value: float, path: str, depth: int) -> Any:
    # A database's number forgets the sign of zero, and that 1e20 was not an integer.
    if math.isfinite(value) and "e" not in repr(value) and (value or str(value) == "0.0"):
        return value
    return {TAG: ["float", repr(value)]}


def _encode_list(value: list[Any], path: str, depth: int) -> Any:
    return [_encode(item, f"{path}[{n}]", depth) for n, item in enumerate(value)]


def _encode_dict(value: dict[Any, Any], path: str, depth: int) -> Any:
    for key in value:
        if type(key) is not str or _UNSTORABLE.search(key):
            raise ArgumentsNotSerializable(path, f"its key {key!r} is not plain text")
    tagged = value.keys() == {TAG}
    depth += 2 if tagged else 0
    plain = {key: _encode(item, f"{path}[{key!r}]", depth) for key, item in value.items()}
    return {TAG: ["dict", plain]} if tagged else plain


def _encode_many(tag: str, value: Any, path: str, depth: int) -> Any:
    items = sorted(value, key=repr) if tag in {"set", "frozenset"} else value
    depth += 2  # the tag and its pair
    return {
        TAG: [tag, [_encode(item, f"{path}[{n}]", depth) for n, item in enumerate(items)]]
    }


def _encode_as(
    tag: str, write: Callable[[Any], Any], value: Any, path: str, depth: int
) -> Any:
    return {TAG: [tag, write(value)]}


def _encode_datetime(value: dt.datetime, path: str, depth: int) -> Any:
    zone = getattr(value.tzinfo, "key", None)
    # With a zone the wall's time is what was meant, also in an hour that never comes.
    written = (value.replace(tzinfo=None) if zone else value).isoformat()
    return {TAG: ["datetime", [written, zone, value.fold]]}


def _decode_datetime(parts: list[Any]) -> dt.datetime:
    written, zone, fold = parts
    value = dt.datetime.fromisoformat(written).replace(fold=fold)
    return value.replace(tzinfo=ZoneInfo(zone)) if zone else value


def _encode_time(value: dt.time, path: str, depth: int) -> Any:
    if value.tzinfo is not None:
        raise ArgumentsNotSerializable(
            path, "a time of day with a time zone has no fixed offset"
        )
    return {TAG: ["time", [value.isoformat(), value.fold]]}


def _decode_time(parts: list[Any]) -> dt.time:
    return dt.time.fromisoformat(parts[0]).replace(fold=parts[1])


_PLAIN = {type(None), bool}

_ENCODERS: dict[type, Callable[[Any, str, int], Any]] = {
    int: _encode_int,
    str: _encode_str,
    float: _encode_float,
    list: _encode_list,
    dict: _encode_dict,
    tuple: partial(_encode_many, "tuple"),
    set: partial(_encode_many, "set"),
    frozenset: partial(_encode_many, "frozenset"),
    bytes: partial(_encode_as, "bytes", lambda value: base64.b64encode(value).decode()),
    Decimal: partial(_encode_as, "decimal", str),
    UUID: partial(_encode_as, "uuid", str),
    complex: partial(_encode_as, "complex", repr),
    dt.datetime: _encode_datetime,
    dt.date: partial(_encode_as, "date", dt.date.isoformat),
    dt.time: _encode_time,
    dt.timedelta: partial(
        _encode_as,
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
    ),
}

_DECODERS: dict[str, Callable[[Any], Any]] = {
    "str": lambda value: base64.b64decode(value).decode("utf-8", "surrogatepass"),
    "float": float,
    "dict": lambda value: {key: decode(item) for key, item in value.items()},
    "tuple": lambda value: tuple(map(decode, value)),
    "set": lambda value: set(map(decode, value)),
    "frozenset": lambda value: frozenset(map(decode, value)),
    "bytes": base64.b64decode,
    "decimal": Decimal,
    "uuid": UUID,
    "complex": complex,
    "datetime": _decode_datetime,
    "date": dt.date.fromisoformat,
    "time": _decode_time,
    "timedelta": lambda value: dt.timedelta(*value),
}
