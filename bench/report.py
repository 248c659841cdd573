"""Turns the figures of all rounds into tables: medians with their spread, ratios, goals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.peers import BASE, OURS, peers

#: Of one contender in one workload: the value of each round by the name of the figure, and
#: when, where and how it was taken.
Line = Mapping[str, Any]

#: The columns of the tables, in their order, by the names of figures.
COLUMNS = {
    "per_second": "tasks per second",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "cpu_ms": "CPU per task, ms",
    "worker_ms": "of it worker",
    "redis_ms": "of it Redis",
    "postgres_ms": "of it PostgreSQL",
    "cpu_ms_per_s": "CPU, ms per second",
    "worker_ms_per_s": "of it worker",
    "beat_ms_per_s": "of it beat",
    "redis_ms_per_s": "of it Redis",
    "postgres_ms_per_s": "of it PostgreSQL",
    "sql_per_s": "statements per second",
    "same_sql_per_s": "of it the most frequent",
    "grown_mb": "memory grown, MB",
    "main_mb": "main process, MB",
    "child_mb": "largest child, MB",
    "all_mb": "all processes, MB",
    "main_grown_mb": "main grown, MB",
    "child_grown_mb": "child grown, MB",
    "rows": "rows",
    "pass_p50_ms": "dispatch pass p50, ms",
    "pass_p95_ms": "p95, ms",
    "start_p50_ms": "start of a free type p50, ms",
    "start_p99_ms": "p99, ms",
    "enqueue_per_s": "enqueued per second by 4 processes",
    "enqueue_busy_per_s": "while 4 run",
    "locked": '"database is locked"',
    "most_together": "most of a limited type at once",
    "beyond_limit": "beyond a limit",
    "foreign": "cores taken by other work",
}
#: Figures whose ratio to the base says something.
COMPARED = {
    *("per_second", "p50_ms", "p99_ms", "cpu_ms", "cpu_ms_per_s", "main_mb", "child_mb"),
    *("all_mb", "start_p50_ms", "pass_p95_ms"),
}
#: Whom each workload compares with, where it is not plain Celery.
BASES = {
    "bulk": "copy",
    "bulk-sqlite": "bulk_create",
    "bulk-mariadb": "bulk_create",
    "grown": "empty",
    "limits": "free",
    "sqlite": OURS,
}


class Goal(NamedTuple):
    """A figure to reach: how it is compared with the base, and the bound."""

    workload: str
    figure: str
    words: str
    how: str  # "ratio", "more" or "value"
    bound: float
    least: bool = False
    who: str = OURS


GOALS = (
    Goal("drain", "cpu_ms", "drain no-ops: CPU per task, ms", "ratio", 0.60),
    Goal("drain", "per_second", "the same: tasks per second", "ratio", 2, least=True),
    Goal("short", "cpu_ms", "short tasks: CPU per task, ms", "ratio", 0.20),
    Goal("short", "per_second", "the same: tasks per second", "ratio", 8, least=True),
    Goal("latency", "p50_ms", "idle latency p50, ms", "ratio", 1.25),
    Goal("latency", "p99_ms", "idle latency p99, ms", "ratio", 1.5),
    Goal("enqueue", "p50_ms", "enqueue one call p50, ms", "ratio", 1.25),
    Goal("bulk", "per_second", "bulk, rows/s, beside COPY", "ratio", 0.7, least=True),
    Goal(
        "bulk-sqlite", "per_second", "on SQLite, beside bulk_create", "ratio", 1, least=True
    ),
    Goal(
        "bulk-mariadb",
        "per_second",
        "on MariaDB, beside bulk_create",
        "ratio",
        1,
        least=True,
    ),
    Goal(
        "grown",
        "cpu_ms",
        "ledger full of ended tasks: CPU per task, ms",
        "ratio",
        1.05,
        who="full",
    ),
    Goal(
        "grown", "pass_p95_ms", "the same: dispatch pass p95, ms", "value", 20, who="full"
    ),
    Goal("grown", "start_p50_ms", "the same: start of a free type", "more", 5, who="full"),
    Goal("idle", "cpu_ms_per_s", "idle stack: CPU, ms per second", "more", 8),
    Goal("idle", "same_sql_per_s", "the same SQL, times per second", "value", 1.05),
    Goal("memory", "main_mb", "main process, MB", "more", 30),
    Goal("memory", "child_mb", "child, MB", "more", 25),
    Goal("memory", "main_grown_mb", "main grown over the run, MB", "value", 1),
    Goal("memory", "child_grown_mb", "child grown over the run, MB", "value", 1),
    Goal("sqlite", "per_second", "SQLite, tasks per second", "value", 400, least=True),
    Goal("sqlite", "locked", '"database is locked"', "value", 0),
    Goal(
        *("limits", "per_second", "1,000 types, 50 with limits: tasks/s", "ratio", 0.9),
        least=True,
        who="limited",
    ),
    Goal("limits", "beyond_limit", "bodies beyond a limit", "value", 0, who="limited"),
)


def goals(lines: Iterable[Line]) -> str:
    """Return the table of goals, as far as there are figures for them."""
    found = {(line["workload"], line["contender"]): line["figures"] for line in lines}
    rows = ["| what | beside | ours | compared | goal | |", "|---|---|---|---|---|---|"]
    for goal in GOALS:
        base = found.get((goal.workload, BASES.get(goal.workload, BASE)), {})
        ours = found.get((goal.workload, goal.who), {})
        if goal.figure in ours:
            rows.append(_goal(goal, ours[goal.figure], base.get(goal.figure)))
    return "\n".join(rows) if len(rows) > 2 else ""


def _goal(goal: Goal, ours: Sequence[float], base: Sequence[float] | None) -> str:
    compared = {
        "ratio": ratios(ours, base) if base else [],
        "more": [one - other for one, other in zip(ours, base or (), strict=False)],
        "value": list(ours),
    }[goal.how]
    told = {"ratio": "x{}", "more": "{} more", "value": "{}"}[goal.how]
    sign = "≥" if goal.least else "≤"
    beside = spread(base) if base and goal.how != "value" else ""
    met = ""
    if compared:
        value = median(compared)
        met = (
            "met"
            if (value >= goal.bound if goal.least else value <= goal.bound)
            else "**missed**"
        )
    cells = [
        goal.words,
        beside,
        spread(ours),
        told.format(spread(compared)) if compared and goal.how != "value" else "",
        f"{sign} {told.format(f'{goal.bound:g}')}",
        met,
    ]
    return f"| {' | '.join(cells)} |"


def table(lines: Sequence[Line]) -> str:
    """Return the table of one workload: a row for each contender, ratios behind the figures."""
    base = BASES.get(lines[0]["workload"], BASE)
    by_name = {line["contender"]: line["figures"] for line in lines}
    columns = [
        name for name in COLUMNS if any(name in figures for figures in by_name.values())
    ]
    heads = " | ".join(COLUMNS[name] for name in columns)
    rows = [f"| | {heads} |", f"|---|{'---|' * len(columns)}"]
    for name, figures in by_name.items():
        beside = by_name.get(base, {}) if name != base else {}
        cells = [_cell(one, figures.get(one), beside.get(one)) for one in columns]
        rows.append(f"| {title(name)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(name: str, values: Sequence[float] | None, base: Sequence[float] | None) -> str:
    if values is None:
        return ""
    ratio = ""
    if name in COMPARED and base and min(base) > 0:
        ratio = f", **x{short(median(ratios(values, base)))}**"
    return f"{spread(values)}{ratio}"


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return the ratio of each round to the same round of the base."""
    return [one / other for one, other in zip(values, base, strict=False) if other]


def spread(values: Sequence[float]) -> str:
    """Return the median, and the least and the greatest where they differ."""
    least, middle, most = (short(one(values)) for one in (min, median, max))
    return middle if least == most else f"{middle} ({least}-{most})"


def short(value: float) -> str:
    """Return a number with two or three digits that matter."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def title(contender: str) -> str:
    """Return what the tables call a contender."""
    known = peers()
    return known[contender].title if contender in known else contender


def curves(lines: Iterable[Line], name: str) -> dict[str, list[tuple[float, float]]]:
    """Return the points ``name@x`` of each contender, medians of all rounds."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        points = [
            (float(key.partition("@")[2]), median(values))
            for key, values in line["figures"].items()
            if key.startswith(f"{name}@")
        ]
        if points:
            found[title(line["contender"])] = sorted(points)
    return found
