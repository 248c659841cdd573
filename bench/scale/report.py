"""Makes the tables of ``docs/scale.md`` from the figures, and reckons what larger sites need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from bench.scale.scenes import USUAL

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
#: Tasks per second for which needs are reckoned; then those of 10^9 rows a month, evenly spread.
RATES = (100, 1_000, 10_000)
MONTH = 30.44 * 86_400
EVEN = 1e9 / MONTH
#: The most of its time that a dispatcher's row, a core or a disk is planned to be taken.
SHARE = 0.5
#: Tasks per second of one worker's main process, whatever the number of its children: of
#: Celery itself, from the measurements that the design began with.
PER_MAIN = 1000
#: Seconds in each hour in which beat lets be pruned what is old.
PRUNING = 300
STEPS = ("enqueue", "dispatch", "claim", "end", "count", "prune")
TITLES = {
    "scenes": "Passes",
    "shards": "Side by side",
    "road": "The road of one task",
    "partitions": "In partitions",
    "pooled": "Behind PgBouncer",
    "replica": "Admin on a standby",
}
Figures = Mapping[str, Any]
#: The figures of a part, and how they were taken.
Line = dict[str, Any]


def write(lines: Mapping[str, Line], docs: Path = DOCS) -> None:
    """Let these parts take the place of those that are kept, and put the tables on the page."""
    kept, page = docs / "scale.json", docs / "scale.md"
    old = json.loads(kept.read_text()) if kept.exists() else {}
    everything = {**old, **lines}
    kept.write_text(json.dumps(everything, indent=1) + "\n")
    before, _, rest = page.read_text().partition(BEGIN)
    text = f"{before}{BEGIN}\n\n{told(everything)}\n{END}{rest.partition(END)[2]}"
    page.write_text(text)


def told(lines: Mapping[str, Line]) -> str:
    """Return the tables of the parts that were measured."""
    tables: dict[str, Callable[[Any], str]] = {
        "scenes": scenes,
        "shards": shards,
        "road": road,
        "partitions": partitions,
        "pooled": pooled,
        "replica": replica,
    }
    parts = []
    for name, table in tables.items():
        if name in lines and lines[name]["figures"]:
            parts += [
                f"### {TITLES[name]}",
                how(lines[name]),
                table(lines[name]["figures"]),
            ]
    if "scenes" in lines and "road" in lines:
        found = {name: line["figures"] for name, line in lines.items()}
        parts += ["### What more would need", needs(found)]
    return "\n\n".join(parts) + "\n"


def how(line: Line) -> str:
    """Return when and where the figures were taken, and beside what."""
    return (
        f"`{line['command']}`, {line['date']}, commit {line['commit']}, load {line['load']} "
        f"before, {line['foreign']} cores taken by other work, {line['minutes']} minutes; "
        f"{line['machine']}."
    )


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def scenes(found: Sequence[Figures]) -> str:
    """Return what a pass costs in each scene, and the sweeps of the largest."""
    rows = []
    for one in found:
        scene, busy = one["scene"], one["busy"]
        rows.append(
            [
                f"{scene['workers']:,} x {scene['slots']}",
                f"{scene['types']:,}, {scene['limited']}",
                f"{scene['waiting']:,}",
                f"{scene['page']:,}" + (", 12 partitions" if scene["months"] else ""),
                f"{busy['per_row_second']:,.0f}; {_by_cpu(busy):,.0f}",
                f"{busy['python_us']:,.0f} + {busy['postgres_us']:,.0f}",
                f"{busy['pass_p50_ms']:,.0f}; {busy['pass_p95_ms']:,.0f}",
                f"{busy['held_p50_ms']:,.0f}; {busy['held_p95_ms']:,.0f}",
                f"{busy['statements']:.0f}",
                f"{one['full']['held_p50_ms']:.1f}; {one['full']['pass_cpu_ms']:.1f}",
                f"{one['idle']['held_p50_ms']:.1f}; {one['idle']['pass_cpu_ms']:.1f}",
            ]
        )
    columns = [
        *("workers x slots", "types, with limits", "waiting", "page"),
        *("tasks/s of one row: seen; by its CPU", "us CPU per task: Python + PostgreSQL"),
        *("pass p50; p95, ms", "row held p50; p95, ms", "statements"),
        *("no slot free: row held; CPU, ms", "nothing waiting: row held; CPU, ms"),
    ]
    largest = max(found, key=lambda one: one["scene"]["workers"])
    sweeps = ", ".join(
        f"{name.removesuffix('_ms')} {value:,.0f} ms"
        for name, value in largest["sweeps"].items()
    )
    return "\n\n".join(
        [
            grid(columns, rows),
            f"The sweeps beside {largest['scene']['workers']:,} workers, nothing amiss: {sweeps}.",
        ]
    )


def _by_cpu(busy: Figures) -> float:
    """Return what a row could promote with a core of its own for whoever has it."""
    return 1e6 / float(busy["python_us"] + busy["postgres_us"])


def shards(found: Sequence[Figures]) -> str:
    """Return what several dispatchers bring."""
    rows = [
        [
            f"{one['dispatchers']} in " + ("one database" if one["one"] else "as many"),
            f"{one['per_second']:,.0f}",
            f"{one['pass_p50_ms']:,.0f}; {one['pass_p95_ms']:,.0f}",
            f"{one['held_p50_ms']:,.0f}",
        ]
        for one in found
    ]
    columns = ["dispatchers", "tasks/s of all", "pass p50; p95, ms", "row held p50, ms"]
    return grid(columns, rows)


def road(found: Figures) -> str:
    """Return what one task writes on its road, and what is left of it."""
    steps, ledger = found["steps"], found["ledger"]
    rows = [
        [
            name,
            f"{one['transactions']:.2f}",
            f"{one['wal_bytes']:,.0f}",
            f"{one['postgres_us']:,.0f}",
            f"{one['python_us']:,.0f}",
            f"{one['wall_us']:,.0f}",
            f"{one['number']:,}",
        ]
        for name, one in [*steps.items(), ("all", total(steps))]
    ]
    columns = [
        *("step", "transactions", "WAL, bytes", "us CPU of PostgreSQL", "of the caller"),
        *("us in all", "measured over"),
    ]
    largest = ", ".join(f"{name} {size:.0f}" for name, size in ledger["largest"].items())
    message = found["publish"]
    return "\n\n".join(
        [
            grid(columns, rows),
            f"An ended task leaves {ledger['table_bytes']:,.0f} bytes of table and "
            f"{ledger['index_bytes']:,.0f} of indexes ({largest}), in a ledger of "
            f"{ledger['rows']:,}. A message costs the dispatcher {message['python_us']:.0f} us "
            f"of CPU and Redis {message['redis_us']:.0f}.",
        ]
    )


def total(steps: Figures) -> dict[str, float]:
    """Return the sum of all steps of a task."""
    figures = ("transactions", "wal_bytes", "postgres_us", "python_us", "wall_us")
    sums = {name: sum(steps[step][name] for step in STEPS) for name in figures}
    return {**sums, "number": steps["enqueue"]["number"]}


def partitions(found: Figures) -> str:
    """Return what a task costs on a ledger in partitions beside one that is whole."""
    rows = [
        [
            step,
            *(
                f"{found[f'{kind} {step}'][figure]:,.0f}"
                for figure in ("postgres_us", "wall_us", "wal_bytes")
                for kind in ("plain", "parted")
            ),
        ]
        for step in STEPS[:4]
    ]
    columns = [
        f"{figure}, {kind}"
        for figure in ("us CPU of PostgreSQL", "us in all", "WAL, bytes")
        for kind in ("one table", "12 partitions")
    ]
    dropped = found["dropped"]
    return "\n\n".join(
        [
            grid(["step", *columns], rows),
            f"To drop a month of {dropped['rows']:,} tasks took "
            f"{1000 * dropped['seconds']:,.0f} ms.",
        ]
    )


def pooled(found: Figures) -> str:
    """Return how it went behind PgBouncer."""
    ended = ", ".join(f"{number:,} {name}" for name, number in found["by_status"].items())
    return (
        f"{found['clients']} clients, {found['servers']} sessions of PostgreSQL: {ended}."
    )


def replica(found: Figures) -> str:
    """Return how admin got on with a standby."""
    failed = ", ".join(found["failed"]) or "none"
    refused = "refused" if found["refused"] else "written"
    return (
        f"{found['pages']} pages were asked for; those that did not "
        f"answer: {failed}. An act was {refused}."
    )


def needs(figures: Figures) -> str:
    """Return what more tasks per second would need, reckoned from what one costs."""
    rates = [*RATES, EVEN]
    each = [need(figures, rate) for rate in rates]
    rows = [[name, *(one[name] for one in each)] for name in each[0]]
    columns = [f"{rate:,}/s" for rate in RATES] + [f"10^9 a month: {EVEN:,.0f}/s"]
    return grid(["reckoned", *columns], rows)


def need(figures: Figures, rate: float) -> dict[str, str]:
    """Return the needs of so many tasks per second, all day, by their names."""
    asked = USUAL._asdict()
    scenes = figures["scenes"]
    usual = next((one for one in scenes if one["scene"] == asked), scenes[0])
    steps, ledger = figures["road"]["steps"], figures["road"]["ledger"]
    message = figures["road"]["publish"]
    one = total(steps)
    size = ledger["table_bytes"] + ledger["index_bytes"]
    a_month = rate * MONTH
    pruned = PRUNING * 1e6 / steps["prune"]["wall_us"]
    return {
        "rows a month": f"{a_month:,.0f}",
        "shards, each half busy": str(ceil(rate / (SHARE * _by_cpu(usual["busy"])))),
        "workers' main processes": str(ceil(rate / PER_MAIN / SHARE)),
        "most of them in one database": f"{SHARE * 1000 / usual['full']['pass_cpu_ms']:,.0f}",
        "cores of PostgreSQL": _few(rate * one["postgres_us"] / 1e6),
        "transactions per second": f"{rate * one['transactions']:,.0f}",
        "WAL, MB/s": _few(rate * one["wal_bytes"] / 1e6),
        "cores for publishing": _few(rate * message["python_us"] / 1e6),
        "cores of Redis": _few(rate * message["redis_us"] / 1e6),
        "ledger, GB a month": f"{a_month * size / 1e9:,.0f}",
        "pruned in an hour, of those that ended": f"{min(1.0, pruned / (rate * 3600)):.0%}",
    }


def _few(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
