"""Calls functions of the project with those of the offered values that they declare."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from celery import Task as CeleryTask

from .exceptions import InvalidCall, MethodNotCallable, MethodNotFound
from .registry import path_of, resolve

#: What each of them may declare, by the option or setting that names the function.
OFFERED = {
    "on_success": ("job",),
    "on_failure": ("job", "exc_type", "exc_value", "traceback"),
    "BEFORE_JOB": ("method", "kwargs", "transaction_type"),
    "AFTER_JOB": ("method", "kwargs", "result"),
}


def checked_path(name: str, value: Any) -> str:
    """Return the dotted path of a function that can be called with what ``name`` offers.

    Raises InvalidCall with a sentence about ``name`` otherwise, and MethodNotAllowed for a
    path that may not run.
    """
    try:
        path = path_of(value)
        function = _function(path)
    except (MethodNotCallable, MethodNotFound) as error:
        raise InvalidCall(f"{name}={value!r} cannot be called: {error.why}") from error
    offered = OFFERED[name]
    missing = _demanded(function) - set(offered)
    if missing:
        raise InvalidCall(
            f"{name}: {path}{inspect.signature(function)} wants {', '.join(sorted(missing))}, "
            f"which it is not given; it may take {', '.join(offered)}, or fewer."
        )
    return path


def call(path: str, offered: Mapping[str, Any]) -> Any:
    """Call the function behind ``path`` with the offered values that it declares."""
    function = _function(path)
    parameters = _parameters(function)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    given = {
        name: value for name, value in offered.items() if takes_all or name in parameters
    }
    by_place = [
        given.pop(name)
        for name, one in parameters.items()
        if one.kind is one.POSITIONAL_ONLY and name in given
    ]
    return function(*by_place, **given)


def _function(path: str) -> Callable[..., Any]:
    target = resolve(path)
    return target.run if isinstance(target, CeleryTask) else target


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def _demanded(function: Callable[..., Any]) -> set[str]:
    """Return the parameters without which ``function`` cannot be called by name."""
    return {
        name
        for name, one in _parameters(function).items()
        if one.default is one.empty
        and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    }
