"""Runs the fault laboratory: ``python -m tests.faults [--tier 1] [--seed 1 2 3] [pytest's options]``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> int:
    """Run the scenarios once for each seed; return 0 when all held for all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument(
        "--tier", type=int, choices=(0, 1, 2), default=0, help="how large: 0 is CI's"
    )
    parser.add_argument("--seed", type=int, nargs="+", default=[7], help="of the dice")
    parser.add_argument("--figures", help="a file to which each figure is added as JSON")
    given, rest = parser.parse_known_args(argv)
    worst = 0
    for seed in given.seed:
        environment = {
            **os.environ,
            "TASKCONTROL_TIER": str(given.tier),
            "TASKCONTROL_TEST_SEED": str(seed),
            "TASKCONTROL_TEST_DATABASE": "postgresql",
        }
        if given.figures:
            environment["TASKCONTROL_FIGURES"] = str(Path(given.figures).resolve())
        chosen = (
            rest if any("tests/faults" in one for one in rest) else ["tests/faults", *rest]
        )
        command = [sys.executable, "-m", "pytest", "-p", "no:randomly", *chosen]
        worst = max(worst, subprocess.run(command, env=environment, check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
