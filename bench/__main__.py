"""Runs workloads for both contenders in turn; ``flat`` and ``pages`` ask ours over much."""

from __future__ import annotations

import argparse
import json
import shutil
import sys

from bench.flat import SIZES, Flat
from bench.pages import report
from bench.report import Figure, machine, table
from bench.stage import Stage, make_directory
from bench.workloads import WORKLOADS

NUMBERS = {
    "enqueue": 3000,
    "drain": 3000,
    "latency": 140,
    "idle": 20,
    "bulk": 100_000,
    "bulk-sqlite": 100_000,
}


#: Workloads that plain Celery has nothing to be compared with.
OURS = ("flat", "pages")
#: Tasks of the site whose pages are measured.
PAGES_ROWS = 2_000_000


def main() -> int:
    """Measure, interleaved: plain, ours, plain, ours."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", choices=[*WORKLOADS, *OURS, []], metavar="WORKLOAD"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the usual numbers"
    )
    options = parser.parse_args()
    names = options.workloads or list(WORKLOADS)
    figures: list[Figure] = []
    flat = Flat()
    directory = make_directory()
    try:
        with Stage(directory) as stage:
            for turn in range(options.rounds):
                for name in names:
                    if name == "pages":
                        say(pages_table(stage, int(PAGES_ROWS * options.scale)))
                    elif name == "flat":
                        for size in SIZES:
                            took = flat.measure(stage, int(size * options.scale))
                            say(f"round {turn + 1} {name} {size}: {took}")
                    else:
                        figures += compare(stage, name, options.scale, turn + 1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say(f"\n{machine()}")
    for found in (table(figures) if figures else "", flat.table() if flat.found else ""):
        say(f"\n{found}" if found else "")
    return 0


def pages_table(stage: Stage, rows: int) -> str:
    """Build a used site with so many tasks, and return what each page of admin costs."""
    printed = stage.run(sys.executable, "-m", "bench.pages", str(rows))
    return report(json.loads(printed))


def compare(stage: Stage, name: str, scale: float, turn: int) -> list[Figure]:
    """Run one workload for both contenders."""
    number = max(int(NUMBERS[name] * scale), 10)
    figures = []
    for contender in ("plain", "taskcontrol"):
        found = WORKLOADS[name](stage, contender, number)
        figures += [Figure(name, contender, *pair) for pair in found.items()]
        say(f"round {turn} {name} {contender}: {found}")
    return figures


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
