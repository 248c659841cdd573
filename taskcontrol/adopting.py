"""Reads what a plain periodic task of beat calls, as a call of ``enqueue``."""

from __future__ import annotations

import inspect
import json
from typing import Any

from .celeryapp import project_app
from .exceptions import InvalidCall


def call_of_plain(periodic: Any) -> dict[str, Any]:
    """Return the Celery task of a row with its arguments by name, and its queue.

    Raises InvalidCall with a sentence when that cannot be told.
    """
    why = f"The periodic task {periodic.name!r} cannot become a schedule: "
    task = project_app().tasks.get(periodic.task)
    if task is None or periodic.task.startswith(("celery.", "taskcontrol.")):
        raise InvalidCall(f"{why}{periodic.task!r} is no Celery task of this project.")
    try:
        args, kwargs = (
            json.loads(periodic.args or "[]"),
            json.loads(periodic.kwargs or "{}"),
        )
        bound = inspect.signature(task.run).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise InvalidCall(f"{why}its arguments do not fit: {error}.") from error
    call: dict[str, Any] = {"method": task, "arguments": _by_name(bound, why)}
    return {**call, "queue": periodic.queue} if periodic.queue else call


def _by_name(bound: inspect.BoundArguments, why: str) -> dict[str, Any]:
    named = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(name, {})
        elif name in named and parameter.kind not in _NAMED:
            raise InvalidCall(f"{why}what it is given as {name!r} has no name.")
    return named


_NAMED = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
