"""The call of ``enqueue`` that a schedule makes, as it stands in a row of the beat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .arguments import decode, encode
from .exceptions import InvalidCall

#: Options that a schedule settles itself.
SETTLED = frozenset(
    {"created_by", "enqueue_after_commit", "is_async", "now", "run_at", "schedule"}
)


def call_of(periodic: Any) -> dict[str, Any]:
    """Return what ``enqueue`` is to be called with: the method and all else, by keyword.

    The keyword arguments of the row are those of ``enqueue``; the method may be its first
    positional argument, and the queue its column. Raises InvalidCall for anything else.
    """
    try:
        args, kwargs = (
            json.loads(periodic.args or "[]"),
            json.loads(periodic.kwargs or "{}"),
        )
        given = decode(kwargs)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise InvalidCall(f"Its arguments are no JSON: {error}.") from error
    if not isinstance(given, dict) or not isinstance(args, list) or len(args) > 1:
        raise InvalidCall(
            'Its keyword arguments must be those of enqueue(): {"method": "app.tasks.f", '
            '"arguments": {...}}.'
        )
    if args:
        given.setdefault("method", args[0])
    if periodic.queue:
        given.setdefault("queue", periodic.queue)
    refuse_settled(given)
    return given


def refuse_settled(given: Mapping[str, Any]) -> None:
    """Raise InvalidCall for an option that a schedule settles itself."""
    settled = sorted(SETTLED & given.keys())
    if settled:
        raise InvalidCall(
            f"A schedule takes no {settled[0]}=: it makes its tasks itself when their time "
            "has come, as the user that stands with it."
        )


def text_of(call: Mapping[str, Any]) -> str:
    """Return a call as the JSON that stands in the row."""
    return json.dumps(encode(dict(call)), ensure_ascii=False, sort_keys=True)


def digest_of(periodic: Any) -> str:
    """Return a mark of what the row does, which changes with it."""
    what = json.dumps([periodic.task, periodic.args, periodic.kwargs, periodic.queue])
    return hashlib.sha256(what.encode()).hexdigest()
