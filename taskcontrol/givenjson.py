"""Reads JSON that a person typed: what nobody could keep or show is refused in a sentence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from .exceptions import InvalidCall

#: Levels of nesting: far more than arguments may have, far fewer than Python's stack takes.
MOST_LEVELS = 100

#: Half of a pair: JSON can write it, but no page can show it.
_HALF = re.compile("[\ud800-\udfff]")


def _no_constant(name: str) -> Any:
    raise InvalidCall(f"{name} cannot be written: JSON has none.")


def given_json(text: str, *, constant: Callable[[str], Any] = _no_constant) -> Any:
    """Return what ``text`` says; ``constant`` takes a NaN or an Infinity.

    Raises InvalidCall with the place and the reason for what cannot be read.
    """
    try:
        data = json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise InvalidCall(
            f"This is no JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise InvalidCall("This is nested too deeply.") from None
    except InvalidCall:
        raise
    except ValueError:
        raise InvalidCall("A number has more digits than Python reads: 4,300.") from None
    _refuse(data, MOST_LEVELS)
    return data


def _refuse(data: Any, levels: int) -> None:
    """Raise InvalidCall for what was read and cannot be shown again."""
    if levels < 0:
        raise InvalidCall("This is nested too deeply.")
    if isinstance(data, float) and not math.isfinite(data):
        raise InvalidCall("A number is too large for a float.")
    if isinstance(data, str) and (found := _HALF.search(data)):
        raise InvalidCall(f"\\u{ord(found[0]):04x} is half of a character.")
    if isinstance(data, dict):
        for key, item in data.items():
            _refuse(key, levels)
            _refuse(item, levels - 1)
    if isinstance(data, list):
        for item in data:
            _refuse(item, levels - 1)
