"""Turns the figures of all rounds into one table: medians with their spread, and ratios."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from statistics import median
from typing import NamedTuple


class Figure(NamedTuple):
    """One number of one round."""

    workload: str
    contender: str
    name: str
    value: float


def table(figures: Iterable[Figure]) -> str:
    """Return a Markdown table; ratios are of the medians, ours to the plain way's."""
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for figure in figures:
        groups[figure.workload, figure.name][figure.contender].append(figure.value)
    lines = [
        "| workload | figure | plain | taskcontrol | ratio |",
        "|---|---|---|---|---|",
    ]
    for (workload, name), by_contender in groups.items():
        plain, ours = by_contender["plain"], by_contender["taskcontrol"]
        base = median(plain)
        ratio = f"{median(ours) / base:.2f}" if base > 0.005 else "-"
        lines.append(
            f"| {workload} | {name} | {_spread(plain)} | {_spread(ours)} | {ratio} |"
        )
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{_short(median(values))} ({_short(min(values))}-{_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def machine() -> str:
    """Return what the figures were taken on."""
    packages = ("celery", "kombu", "django", "psycopg", "redis", "billiard")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
