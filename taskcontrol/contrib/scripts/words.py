"""What a script may call: log, progress, enqueue and call by name, the user and the time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from decimal import Decimal
from typing import Any

from django.utils import timezone

from ... import dialect
from ...arguments import decode, encode
from ...conf import conf
from ...context import current_user
from ...exceptions import ArgumentsNotSerializable, Discard, InvalidCall, Retry
from ...progress import notify_task_status
from ...shorthands import enqueue_safe
from ...signature import OPTIONS as ALL_OPTIONS
from ...targets import target_of_call

#: The options of ``enqueue`` that a script may give. Those that name code, a user or the
#: task of somebody else are not among them.
OPTIONS = frozenset(
    {
        *("arguments", "at_front", "batch_id", "deduplicate", "event", "expires", "job_id"),
        *("job_name", "max_retries", "paused", "priority", "queue", "retry_delay"),
        *("run_at", "timeout"),
    }
)
#: The others.
FOREIGN = ALL_OPTIONS - OPTIONS

#: How deep scripts may call each other.
DEEPEST = 16
_depth: ContextVar[int] = ContextVar("taskcontrol_scripts_depth", default=0)


def words() -> dict[str, Any]:
    """Return what a script may use beside Python's own names, by name."""
    user = current_user()
    return {
        "Decimal": Decimal,
        "Discard": Discard,
        "Retry": Retry,
        "call": call,
        "date": dt.date,
        "datetime": dt.datetime,
        "enqueue": enqueue,
        "log": log,
        "may": may,
        "now": lambda: dialect.now(conf.DATABASE),
        "progress": progress,
        "time": dt.time,
        "timedelta": dt.timedelta,
        "today": lambda: timezone.localdate(dialect.now(conf.DATABASE)),
        "user": user.get_username() if user is not None else "",
    }


def log(*things: Any) -> None:
    """Write a line into the debug log of the task."""
    print(*things)  # noqa: T201 - captured


def progress(
    count: float | None = None, total: float | None = None, description: str | None = None
) -> None:
    """Say how far the script is."""
    said = {"count": count, "total": total, "description": description}
    known: Any = {name: value for name, value in said.items() if value is not None}
    notify_task_status({"progress": known})


def may(permission: str) -> bool:
    """Return whether the user of the task has a permission; the system has each, a visitor none."""
    user = current_user()
    return user is None or bool(user.has_perm(str(permission)))


def call(name: str, /, **arguments: Any) -> Any:
    """Run a whitelisted function or another script at once and return its value.

    Asked as a safe call is, of the user of this task. Plain data goes in and comes out.
    """
    target = target_of_call(str(name), {"call_whitelisted_function": True}, current_user())
    function: Callable[..., Any] = target.function
    with _one_level_deeper():
        return _plain(name, "returned", function(**_plain(name, "was given", arguments)))


@contextmanager
def _one_level_deeper() -> Iterator[None]:
    """Python's own limit would be met in the middle of whatever the function does."""
    depth = _depth.get() + 1
    if depth > DEEPEST:
        raise InvalidCall(f"Scripts call each other at most {DEEPEST} levels deep.")
    token = _depth.set(depth)
    try:
        yield
    finally:
        _depth.reset(token)


def enqueue(name: str, /, **given: Any) -> str | None:
    """Enqueue a whitelisted function or another script; return the name of the task.

    Takes some options of ``enqueue``, and else what the function takes. The task belongs
    to the user of this one.
    """
    foreign = sorted(FOREIGN & given.keys())
    if foreign:
        raise InvalidCall(
            f"A script cannot give {foreign[0]}=; it may give: {', '.join(sorted(OPTIONS))}."
        )
    task = enqueue_safe(str(name), **_plain(name, "was given", given))
    return None if task is None else str(task.name)


def _plain(name: str, did: str, value: Any) -> Any:
    try:
        return decode(encode(value))
    except ArgumentsNotSerializable as error:
        raise InvalidCall(f"{name!r} {did} what scripts cannot have: {error}") from None
