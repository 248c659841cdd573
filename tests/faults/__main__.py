"""Runs the fault laboratory: ``python -m tests.faults [--tier 1] [--seeds 1,2,3] [pytest's options]``.

All scenarios run with the first seed, and with the others those that are marked
``every_seed``; scenarios that are named run with each. Two runs share them, since most of
the time they wait for what other processes do. One that fails is run once more, alone, where
few do: if it then passes it is told by name and marked as unsteady in its figures, and one
that fails twice fails the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import run as runner
from tests.faults import shares

DATABASE = "postgresql"
#: Runs that share the scenarios, each with servers of its own.
AT_ONCE = 2
#: How long each scenario took, but for those that are over in a moment.
LENGTHS = ("--durations=0", "--durations-min=1")


def main(argv: Sequence[str]) -> int:
    """Run the scenarios once for each seed; return 0 when all held for all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--tier", type=int, choices=(0, 1, 2), default=0, help="how large: 0 is CI's"
    )
    parser.add_argument("--seeds", default="7", help="of the dice, with commas between")
    parser.add_argument("--figures", help="a file to which each figure is added as JSON")
    given, rest = parser.parse_known_args(argv)
    named = any("tests/faults" in one for one in rest)
    # The larger ones take as long as they take; each wait of theirs has a bound of its own.
    bound = ["--timeout=0"] if given.tier else []
    chosen = ["-p", "no:randomly", *LENGTHS, *bound, *rest]
    chosen += [] if named else ["tests/faults"]
    os.environ["TASKCONTROL_TIER"] = str(given.tier)
    if given.figures:
        os.environ["TASKCONTROL_FIGURES"] = str(Path(given.figures).resolve())
    first, *others = given.seeds.split(",")
    again = chosen if named else [*chosen, "-m", "every_seed"]
    return max([_run(first, chosen), *(_run(seed, again) for seed in others)])


def _run(seed: str, chosen: Sequence[str]) -> int:
    os.environ["TASKCONTROL_TEST_SEED"] = seed
    began = time.monotonic()
    outcome = _run_shared(chosen)
    for name in runner.run_again(outcome):
        print(f"unsteady: {name} failed first and passed alone", flush=True)  # noqa: T201
    print(runner.closing_line(outcome.counts, time.monotonic() - began), flush=True)  # noqa: T201
    return outcome.status


def _run_shared(chosen: Sequence[str]) -> runner.Outcome:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        os.environ[shares.VARIABLE] = folder
        marks = [f"{number} | " for number in range(1, AT_ONCE + 1)]
        outcomes = list(
            pool.map(lambda mark: runner.run(DATABASE, chosen, mark=mark), marks)
        )
        del os.environ[shares.VARIABLE]
    return runner.together(outcomes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
