"""Writes the table of figures: ``python -m tests.faults.table FIGURES... [--write]``.

Each file holds the lines that ``python -m tests.faults --figures FILE`` has kept. With ``--write``
they are added to ``docs/guarantees.jsonl``, where a newer line takes the place of an older
one of the same scenario, tier and seed, and the table in ``docs/guarantees.md`` is made anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT, PAGE = DOCS / "guarantees.jsonl", DOCS / "guarantees.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

#: What each line says of itself; all others are its figures.
ABOUT = ("row", "tier", "seed", "commit", "seconds", "unsteady")
HEAD = (
    "| scenario | tier | seeds | unsteady | seen | minutes |\n|---|---|---|---|---|---|\n"
)

Line = Mapping[str, Any]


def main(argv: Sequence[str]) -> int:
    """Print the table of these files, or keep their lines and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.table", description=__doc__
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help="into docs/guarantees.md")
    given = parser.parse_args(argv)
    lines = [line for file in given.files for line in read(file)]
    if given.write:
        write(lines)
    else:
        sys.stdout.write(table(lines))
    return 0


def read(file: Path) -> list[Line]:
    """Return the lines of a file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def write(lines: Iterable[Line]) -> None:
    """Keep these lines, and make the page's table of all that are kept."""
    kept = {_same(line): line for line in (*read(KEPT), *lines)}
    ordered = sorted(kept.values(), key=_same)
    KEPT.write_text("".join(json.dumps(line) + "\n" for line in ordered))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(ordered)}\n{END}{rest.partition(END)[2]}")


def table(lines: Iterable[Line]) -> str:
    """Return the table: one row for each scenario and tier, over all seeds."""
    groups: dict[tuple[str, int], list[Line]] = {}
    for line in sorted(lines, key=_same):
        groups.setdefault((line["row"], line["tier"]), []).append(line)
    return HEAD + "".join(_row(*key, group) for key, group in groups.items())


def _same(line: Line) -> tuple[str, int, int]:
    return line["row"], line["tier"], line["seed"]


def _row(name: str, tier: int, group: Sequence[Line]) -> str:
    seeds = ", ".join(str(line["seed"]) for line in group)
    figures = dict.fromkeys(key for line in group for key in line if key not in ABOUT)
    seen = ", ".join(
        f"{key.replace('_', ' ')} {_span([line[key] for line in group if key in line])}"
        for key in figures
    )
    unsteady = ", ".join(str(line["seed"]) for line in group if line.get("unsteady"))
    minutes = sum(line["seconds"] for line in group) / 60
    return f"| {name} | T{tier} | {seeds} | {unsteady} | {seen} | {minutes:.1f} |\n"


def _span(values: Sequence[Any]) -> str:
    """Return a figure over all seeds: the value, or the least and the greatest."""
    if all(isinstance(value, int | float) for value in values):
        least, most = min(values), max(values)
        return f"{least:,}" if least == most else f"{least:,}-{most:,}"
    if all(isinstance(value, dict) for value in values):
        keys = dict.fromkeys(key for value in values for key in value)
        told = (
            f"{key} {_span([one[key] for one in values if key in one])}" for key in keys
        )
        return f"({', '.join(told)})"
    return "; ".join(dict.fromkeys(map(str, values)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
