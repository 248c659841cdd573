"""What the samples of a soak say: what grew, and whether that is more than it may."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench.curves import chart
from bench.report import short
from bench.soak.sampling import Sample

#: Part of the soak that is left out: caches fill and the ledger reaches its size.
WARM = 1 / 3
#: Fewest samples that a slope is made of.
FEWEST = 6
#: Megabytes by which a process may grow in an hour, and in all without being noticed.
MEMORY_PER_HOUR, NOISE = 6.0, 1.5
#: How much later probes may begin in the last third than in the second, and how much larger
#: the table of tasks may be for each row.
LATER, LARGER = 1.5, 1.25
#: Share of dead rows that autovacuum leaves by itself.
DEAD = 0.5


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    told: str
    holds: bool


def findings(samples: Sequence[Sample]) -> list[Finding]:
    """Return what was found, after the warm part."""
    until = samples[-1]["seconds"] if samples else 0.0
    kept = [one for one in samples if one["seconds"] >= WARM * until]
    if len(kept) < FEWEST:
        return [Finding("samples", f"{len(kept)}: too few for a verdict", holds=True)]
    names = sorted({name for one in kept for name in one if name.endswith(" mb")})
    return [
        *(_memory(name, kept) for name in names),
        _thirds("p50_ms", "latency p50, ms", kept, LATER),
        _thirds("p99_ms", "latency p99, ms", kept, LATER * 2),
        _per_row(kept),
        _dead(kept),
    ]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much y grows for each x, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below if below else 0.0


def _points(name: str, samples: Sequence[Sample]) -> list[tuple[float, float]]:
    return [(one["seconds"], one[name]) for one in samples if name in one]


def _memory(name: str, samples: Sequence[Sample]) -> Finding:
    # What was begun anew, as after a fault, is another process.
    pid = f"{name.removesuffix(' mb').removesuffix(' child')} pid"
    last = [one[pid] for one in samples if pid in one][-1:]
    points = _points(name, [one for one in samples if [one.get(pid)] == last])
    if len(points) < FEWEST:
        return Finding(name.removesuffix(" mb"), "begun anew", holds=True)
    grows = 3600 * slope(points)
    told = f"{short(points[-1][1])} MB, {grows:+.1f} MB per hour"
    in_all = grows * (points[-1][0] - points[0][0]) / 3600
    holds = grows <= MEMORY_PER_HOUR or in_all <= NOISE
    return Finding(name.removesuffix(" mb"), told, holds=holds)


def _halves(name: str, samples: Sequence[Sample]) -> tuple[float, float]:
    values = [value for _, value in _points(name, samples)] or [0.0]
    middle = len(values) // 2
    return median(values[:middle] or values), median(values[middle:])


def _thirds(name: str, words: str, samples: Sequence[Sample], bound: float) -> Finding:
    before, after = _halves(name, samples)
    told = f"{short(before)} in the second third, {short(after)} in the last"
    return Finding(words, told, holds=after <= bound * before)


def _per_row(samples: Sequence[Sample]) -> Finding:
    each = [
        {"seconds": one["seconds"], "each": one["table_mb"] * 2**20 / one["rows"]}
        for one in samples
        if one.get("rows")
    ]
    before, after = _halves("each", each)
    told = f"{before:,.0f} bytes in the second third, {after:,.0f} in the last"
    return Finding("table and indexes, per row", told, holds=after <= LARGER * before)


def _dead(samples: Sequence[Sample]) -> Finding:
    shares = [
        {"seconds": one["seconds"], "dead": one["dead_rows"] / one["rows"]}
        for one in samples
        if one.get("rows")
    ]
    before, after = _halves("dead", shares)
    most = max((one["dead"] for one in shares), default=0.0)
    told = (
        f"{before:.0%} of the living in the second third, {after:.0%} in the last, "
        f"at most {most:.0%}"
    )
    return Finding("dead rows", told, holds=after <= max(2 * before, DEAD))


def told(found: Sequence[Finding], *, struck: bool = False) -> str:
    """Return the verdict as a table; ``struck``: what a fault may have done is no growth."""
    other = "struck" if struck else "**grows**"
    rows = [
        f"| {one.what} | {one.told} | {'steady' if one.holds else other} |" for one in found
    ]
    return "\n".join(["| | | |", "|---|---|---|", *rows])


def _legend(name: str) -> str:
    return name.replace("_", " ").removesuffix(" mb").removesuffix(" ms")


def pictures(samples: Sequence[Sample]) -> dict[str, str]:
    """Return an SVG for memory, latency and size, by name."""
    minutes = [{**one, "seconds": one["seconds"] / 60} for one in samples]
    memory = sorted({name for one in samples for name in one if name.endswith(" mb")})
    groups = {
        "memory": (
            "Memory of every process",
            "MB",
            [n for n in memory if n != "postgres mb"],
        ),
        "latency": (
            "From enqueue to the start of an urgent task",
            "ms",
            ["p50_ms", "p99_ms"],
        ),
        "size": ("The table of tasks", "MB", ["table_mb", "indexes_mb"]),
        "rows": ("Rows of the table of tasks", "rows", ["rows", "dead_rows"]),
    }
    return {
        name: chart(
            title,
            "minutes",
            unit,
            {_legend(one): _points(one, minutes) for one in names},
        )
        for name, (title, unit, names) in groups.items()
    }
