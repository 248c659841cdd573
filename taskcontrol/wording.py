"""Says durations, times, counts and tables as a person reads them, and all as a script does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Return ``seconds`` in at most two units: ``7 ms``, ``0.4 s``, ``12 s``, ``2 h 5 min``."""
    seconds = max(seconds, 0.0)
    if 0 < seconds < 0.1:
        return f"{max(seconds * 1000, 1):.0f} ms"
    if seconds < 9.95:
        return f"{round(seconds, 1):g} s"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
        if len(parts) == 2:
            break
    return " ".join(filter(None, parts))


def moment(value: datetime) -> str:
    """Return a time in the time zone of the site, with the zone's name."""
    if timezone.is_aware(value):
        value = timezone.localtime(value)
    return value.strftime("%Y-%m-%d %H:%M:%S %Z").strip()


def counted(number: int, one: str, many: str = "") -> str:
    """Return ``1 task``, ``2 tasks``, ``12,000 tasks``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def listed(items: Sequence[object], most: int = 10) -> str:
    """Return ``5, 7 and 9``, or of many the first ``most`` and how many more there are."""
    words = [str(item) for item in items[:most]]
    if len(items) > most:
        words.append(f"{len(items) - most:,} more")
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def one_line(value: object) -> str:
    """Return the text of ``value``, of an error most often, without its line breaks."""
    return " ".join(str(value).split())


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return columns under a header, numbers to the right, words to the left."""
    rows = list(rows)
    cells = [[_cell(value) for value in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [
        bool(rows) and all(isinstance(row[n], int) for row in rows)
        for n in range(len(header))
    ]
    lines = []
    for line in [header, *cells]:
        fitted = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        lines.append("  ".join(fitted).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_json(value: Any) -> str:
    """Return ``value`` as indented JSON; dataclasses become objects, times ISO texts."""
    return json.dumps(value, cls=_Encoder, indent=2, ensure_ascii=False)


class _Encoder(DjangoJSONEncoder):
    def default(self, o: Any) -> Any:
        if is_dataclass(o) and not isinstance(o, type):
            return asdict(o)
        return super().default(o)
