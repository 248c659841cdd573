"""Reads an error back from what is stored of it: its class, what it said, its traceback."""

from __future__ import annotations

from typing import NamedTuple

from . import exceptions
from .errorclasses import find
from .text import last_line

_TRACEBACK = "Traceback (most recent call last):\n"


class ToldError(NamedTuple):
    """An error of a process that may be gone by now."""

    #: ``Exception`` where the class cannot be found in this process.
    kind: type[BaseException]
    said: str
    traceback: str


def error_of(error_message: str, ended_reason: str = "") -> ToldError:
    """Return the error that a row tells of."""
    # The time limit is Celery's exception in the body, and ours in the last line.
    timed_out = ended_reason == "timed out"
    text = last_line(error_message) if timed_out else _without_stack(error_message)
    name, colon, said = text.partition(": ")
    if not name.replace(".", "").isidentifier():
        return ToldError(Exception, text, error_message)
    return ToldError(_class_named(name), said if colon else "", error_message)


def _without_stack(error_message: str) -> str:
    """Return the last error with its message, whose own lines may be indented."""
    lines = error_message.rpartition(_TRACEBACK)[2].splitlines()
    while lines and lines[0].startswith(" "):
        lines.pop(0)
    return "\n".join(lines)


def _class_named(name: str) -> type[BaseException]:
    """Our own sentences name our classes without their module."""
    ours = getattr(exceptions, name, None)
    return find(name) or (ours if isinstance(ours, type) else Exception)
