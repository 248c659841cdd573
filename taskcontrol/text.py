"""Makes any text storable and safe to show: cleaned, capped, without secrets."""

from __future__ import annotations

import math
import re
import traceback
from types import TracebackType
from typing import Any

from .conf import conf

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_MASK = "********"


def clean(text: Any, limit: int) -> str:
    """Return ``text`` as every database takes it, at most ``limit`` characters.

    NUL and lone surrogates become U+FFFD; of a longer text the head and the tail stay.
    """
    value = text if isinstance(text, str) else safe_str(text)
    return _UNSTORABLE.sub("\ufffd", shorten(value, limit))


def clipped(text: str, limit: int) -> str:
    """Return the first ``limit`` characters of ``text`` as every database takes them."""
    return _UNSTORABLE.sub("\ufffd", text[:limit])


def shorten(text: str, limit: int) -> str:
    """Return ``text`` with its middle cut out when it is longer than ``limit``."""
    if len(text) <= limit:
        return text
    gap = f"\n… {len(text) - limit:,} characters cut …\n"
    keep = max(limit - len(gap), 0)
    head = keep // 3
    return text[:head] + gap + text[len(text) - (keep - head) :]


def safe_str(value: Any) -> str:
    """Return ``str(value)`` even if that raises; what stops a task goes through."""
    try:
        return str(value)
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(value).__name__} whose text cannot be had: {type(error).__name__}>"


def redact(text: str) -> str:
    """Return ``text`` with what looks like a secret replaced by stars."""
    for pattern, replacement in _secret_patterns():
        text = pattern.sub(replacement, text)
    return text


def _secret_patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    # Repetitions are bounded and give nothing back: a worker that searched a long line for
    # minutes would do so with its time limit blocked.
    names = tuple(conf.SECRET_NAMES)
    if names not in _compiled:
        _compiled.clear()
        words = "|".join(map(re.escape, names))
        _compiled[names] = (
            # user:password@host in an address
            # (up to the last @, which a password may hold)
            (re.compile(r"(://[^\s:/@]{0,99}+):[^\s/]{1,999}@"), rf"\1:{_MASK}@"),
            # Authorization: Bearer x, Basic x
            (
                re.compile(r"\b(Bearer|Basic)\s{1,9}+[\w.~+/=-]{8,}+", re.IGNORECASE),
                rf"\1 {_MASK}",
            ),
            # a JSON Web Token anywhere
            (re.compile(r"\beyJ[\w-]{5,999}+\.[\w-]{5,9999}+\.[\w-]*+"), _MASK),
            # a PEM block
            (
                re.compile(
                    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----).*?(-----END|\Z)", re.DOTALL
                ),
                rf"\1{_MASK}\2",
            ),
            # name="value", name=value; a name in quotes or with a dash may have a colon
            (
                re.compile(
                    rf"""((?:(?:{words})[\w -]{{0,99}}+["']\s{{0,9}}+[:=]"""
                    rf"""|-[\w-]{{0,99}}(?:{words})[\w-]{{0,99}}+\s{{0,9}}+:"""
                    rf"""|(?:{words})\w{{0,99}}+\s{{0,9}}+=)\s*+)"""
                    r"""(?:(["'])(?:(?!\2).)+\2|[^\s,;.)\]}"'(\[{]{3,}(?![\w.(\[]))""",
                    re.IGNORECASE,
                ),
                rf"\1{_MASK}",
            ),
        )
    return _compiled[names]


_compiled: dict[tuple[str, ...], tuple[tuple[re.Pattern[str], str], ...]] = {}


def describe(error: BaseException) -> str:
    """Return the traceback of ``error`` without local variables, redacted and capped.

    The last line says what happened, as Python prints it.
    """
    limit = conf.ERROR_MAX_CHARS
    try:
        told = traceback.TracebackException(
            type(error), error, _users_part(error.__traceback__), limit=-50, compact=True
        )
        text = "".join(told.format())
    except BaseException as broken:  # noqa: BLE001 - a hostile __str__ must not win
        text = f"{type(error).__name__} (its traceback cannot be shown: {type(broken).__name__})"
    # Cut before redacting, lest a text of megabytes is searched.
    return clean(redact(shorten(text.strip(), 2 * limit)), limit)


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    """Leave out our own frames, through which every body is called."""
    rest = trace
    while rest is not None and _is_ours(rest.tb_frame.f_globals.get("__package__")):
        rest = rest.tb_next
    return rest or trace


def _is_ours(package: Any) -> bool:
    return isinstance(package, str) and package.partition(".")[0] == __package__


def last_line(error_message: str) -> str:
    """Return the line of an error that says what happened, for lists and events."""
    lines = [line for line in error_message.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else ""


#: MariaDB's JSON takes 32 levels.
_LEVELS = 30


def storable(value: Any, levels: int = _LEVELS) -> bool:
    """Return whether every database's JSON takes ``value`` and gives it back unchanged."""
    if isinstance(value, str):
        return not _UNSTORABLE.search(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return levels > 0 and all(
            isinstance(k, str) and storable(k) and storable(v, levels - 1)
            for k, v in value.items()
        )
    if isinstance(value, list):
        return levels > 0 and all(storable(item, levels - 1) for item in value)
    return value is None or isinstance(value, bool | int)
