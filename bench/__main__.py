"""Runs the workloads for both contenders in turn and prints the table."""

from __future__ import annotations

import argparse
import shutil
import sys

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


def main() -> int:
    """Measure, interleaved: plain, ours, plain, ours."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", choices=[*WORKLOADS, []], metavar="WORKLOAD"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the usual numbers"
    )
    options = parser.parse_args()
    figures: list[Figure] = []
    directory = make_directory()
    try:
        with Stage(directory) as stage:
            for turn in range(options.rounds):
                for name in options.workloads or WORKLOADS:
                    number = max(int(NUMBERS[name] * options.scale), 10)
                    for contender in ("plain", "taskcontrol"):
                        found = WORKLOADS[name](stage, contender, number)
                        figures += [
                            Figure(name, contender, *pair) for pair in found.items()
                        ]
                        say(f"round {turn + 1} {name} {contender}: {found}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say(f"\n{machine()}\n\n{table(figures)}")
    return 0


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
