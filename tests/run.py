"""Runs all tests once per database and sums up: ``python -m tests.run [pytest's options]``.

Tests mostly wait for what other processes do, so several databases are tested at the same
time, with the name of each before what it says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

#: Each run: the database and the options that choose its tests.
RUNS: dict[str, list[str]] = {
    "sqlite": [],
    "postgresql": [],
    "mariadb": ["-m", "databases"],
}
#: Databases that are tested at the same time.
AT_ONCE = 2
NOTHING_COLLECTED = 5
COVERAGE = "--coverage"
PYTEST = ["-m", "pytest"]
#: The exit status of a run and its counts.
Outcome = tuple[int, "Counter[str]"]
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
    for status, counts in _all_runs(databases(), argv):
        total += counts
        worst = worst or status
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


def _all_runs(names: Sequence[str], argv: Sequence[str]) -> Iterator[Outcome]:
    """Run pytest on each database; yield what came of each when it is over."""
    if len(names) == 1:
        yield run(names[0], argv)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = [pool.submit(run, name, argv, mark=f"{name[:10]:10} | ") for name in names]
        for done in as_completed(runs):
            yield done.result()


def run(database: str, argv: Sequence[str], *, mark: str = "") -> Outcome:
    """Run pytest on one database; return its exit status and its counts.

    ``mark`` stands before each line of what it says, where several speak at once.
    """
    with tempfile.TemporaryDirectory() as directory:
        summary = Path(directory) / "summary.json"
        command = [sys.executable, *PYTEST, *RUNS.get(database, []), *argv]
        environment = {
            **os.environ,
            "TASKCONTROL_TEST_DATABASE": database,
            "TASKCONTROL_TEST_SUMMARY": str(summary),
        }
        print(f"{mark}==== {database} ====", flush=True)  # noqa: T201
        if mark:
            status = _run_marked(command, environment, mark)
        else:
            status = subprocess.run(command, env=environment, check=False).returncode
        counts = Counter(json.loads(summary.read_text()) if summary.exists() else {})
    return (0 if status == NOTHING_COLLECTED else status), counts


def _run_marked(command: Sequence[str], environment: Mapping[str, str], mark: str) -> int:
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(f"{mark}{line}", end="", flush=True)  # noqa: T201
    return process.returncode


def closing_line(counts: Counter[str], seconds: float) -> str:
    """Return the line in which pytest would sum up."""
    told = [f"{counts[kind]} {_name(kind, counts[kind])}" for kind in KINDS if counts[kind]]
    return f"==== {', '.join(told) or 'no tests ran'} in {seconds:.2f}s ===="


def _name(kind: str, count: int) -> str:
    return "errors" if kind == "error" and count != 1 else kind


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
