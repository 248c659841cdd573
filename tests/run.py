"""Runs all tests once per database and sums up: ``python -m tests.run [pytest's options]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

#: Each run: the database and the options that choose its tests.
RUNS: dict[str, list[str]] = {
    "sqlite": [],
    "postgresql": [],
    "mariadb": ["-m", "databases"],
}
NOTHING_COLLECTED = 5
COVERAGE = "--coverage"
PYTEST = ["-m", "pytest"]
#: The order in which pytest counts in its last line.
KINDS = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "error")


def main(argv: Sequence[str]) -> int:
    """Run pytest per database; return 0 when every run passed.

    TASKCONTROL_TEST_DATABASE (comma-separated) or a DATABASE_URL restricts the runs.
    ``--coverage`` measures what all of them together reach, workers and all.
    """
    began = time.monotonic()
    global PYTEST
    measured = COVERAGE in argv
    if measured:
        argv = [option for option in argv if option != COVERAGE]
        PYTEST = ["-m", "coverage", "run", "-m", "pytest"]
        coverage("erase")
    total: Counter[str] = Counter()
    worst = 0
    for database in databases():
        status, counts = run(database, argv)
        total += counts
        worst = worst or status
        if status == 2:  # interrupted
            break
    if not worst and not total["passed"]:
        worst = NOTHING_COLLECTED
    if measured:
        coverage("combine", "--quiet")
        worst = worst or coverage("report")
    print(closing_line(total, time.monotonic() - began), flush=True)  # noqa: T201
    return worst


def coverage(*arguments: str) -> int:
    """Run a command of coverage and return its exit status."""
    return subprocess.run(
        [sys.executable, "-m", "coverage", *arguments], check=False
    ).returncode


def databases() -> list[str]:
    """Return the databases of this call."""
    chosen = os.environ.get("TASKCONTROL_TEST_DATABASE", "")
    if chosen:
        return chosen.split(",")
    if os.environ.get("DATABASE_URL"):
        return [os.environ["DATABASE_URL"].partition(":")[0]]
    return [name for name in RUNS if name != "mariadb" or _has_mariadb()]


def _has_mariadb() -> bool:
    from tests.servers.mariadb import program
    from tests.servers.missing import ServerMissing

    try:
        return bool(program("mariadbd"))
    except ServerMissing:
        return False


def run(database: str, argv: Sequence[str]) -> tuple[int, Counter[str]]:
    """Run pytest on one database; return its exit status and its counts."""
    print(f"\n==== {database} ====", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory() as directory:
        summary = Path(directory) / "summary.json"
        done = subprocess.run(
            [sys.executable, *PYTEST, *RUNS.get(database, []), *argv],
            env={
                **os.environ,
                "TASKCONTROL_TEST_DATABASE": database,
                "TASKCONTROL_TEST_SUMMARY": str(summary),
            },
            check=False,
        )
        counts = Counter(json.loads(summary.read_text()) if summary.exists() else {})
    status = done.returncode
    return (0 if status == NOTHING_COLLECTED else status), counts


def closing_line(counts: Counter[str], seconds: float) -> str:
    """Return the line in which pytest would sum up."""
    told = [f"{counts[kind]} {_name(kind, counts[kind])}" for kind in KINDS if counts[kind]]
    return f"==== {', '.join(told) or 'no tests ran'} in {seconds:.2f}s ===="


def _name(kind: str, count: int) -> str:
    return "errors" if kind == "error" and count != 1 else kind


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
