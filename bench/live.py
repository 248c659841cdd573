"""Measures how late open pages hear of a change: ``python -m bench.live --rounds 3``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import defaultdict
from statistics import median

from bench.machine import machine
from bench.stage import Stage, make_directory

#: Pages that watch one task, and how many changes of it at ten a second.
CROWDS = ((1, 60), (500, 100))
GAP = 0.1


def main() -> None:
    """Measure each crowd in each round, with one process of the web server."""
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    directory = make_directory()
    try:
        with Stage(directory) as stage:
            stage.start_web()
            for _ in range(rounds):
                for pages, number in CROWDS:
                    for name, seconds in watch(stage, pages, number).items():
                        found[pages, name].append(1000 * seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.write(f"{machine()}\n\n| pages | figure | ms |\n|---|---|---|\n")
    for (pages, name), values in found.items():
        spread = f"{median(values):,.1f} ({min(values):,.1f}-{max(values):,.1f})"
        sys.stdout.write(f"| {pages} | {name} | {spread} |\n")


def watch(stage: Stage, pages: int, number: int) -> dict[str, float]:
    """Change a task that so many pages watch; return how late they heard of it."""
    url = f"http://127.0.0.1:{stage.port}"
    return stage.python("bench.watching", url, pages, number, GAP)


if __name__ == "__main__":
    main()
