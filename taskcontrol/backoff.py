"""Delays that grow from retry to retry: exponential, with a cap and a random part."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping
from typing import Any

#: What ``backoff=True`` means, and what a dict that leaves a key out gets.
STANDARD: dict[str, Any] = {"factor": 2.0, "max": 3600.0, "jitter": True}
#: Seconds before the first retry when the task has no ``retry_delay``.
FIRST = 1.0
#: Seconds that a cap may be: ten years.
LONGEST = 10 * 365 * 86400.0


def completed(value: Any) -> Any:
    """Return a backoff as it is stored: all three keys, or False for none.

    Raises a ValueError that says what it must be.
    """
    if isinstance(value, bool):
        return dict(STANDARD) if value else False
    if not isinstance(value, Mapping) or value.keys() - STANDARD.keys():
        raise ValueError(
            'True, False or {"factor": 2, "max": 3600, "jitter": True} with any of these '
            f"keys, not {value!r}"
        )
    given = {**STANDARD, **value}
    if isinstance(given["max"], dt.timedelta):
        given["max"] = given["max"].total_seconds()
    _refuse_unless(_is_number(given["factor"], 1, 100), "factor", "from 1 to 100", given)
    _refuse_unless(
        _is_number(given["max"], 0, LONGEST),
        "max",
        "seconds or a timedelta, not negative and at most ten years",
        given,
    )
    _refuse_unless(isinstance(given["jitter"], bool), "jitter", "True or False", given)
    return {**given, "factor": float(given["factor"]), "max": float(given["max"])}


def _is_number(value: Any, least: float, most: float) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and least <= value <= most


def _refuse_unless(fits: bool, key: str, wanted: str, given: Mapping[str, Any]) -> None:  # noqa: FBT001 - the subject of the sentence
    if not fits:
        raise ValueError(f"a dict whose {key!r} is {wanted}, not {given[key]!r}")


def delay(first: float | None, backoff: Any, made: int) -> float:
    """Return the seconds before the next retry, when ``made`` retries were made before.

    ``backoff`` as stored; without one it is always ``first``. Jitter takes off up to half,
    so that what failed together does not come back together.
    """
    if not backoff:
        return first or 0.0
    longest = float(backoff["max"])
    try:
        wanted = (first or FIRST) * float(backoff["factor"]) ** made
    except OverflowError:
        wanted = longest
    chosen = min(float(wanted), longest)
    part = random.uniform(0.5, 1) if backoff["jitter"] else 1.0  # noqa: S311 - no secret
    return chosen * part
