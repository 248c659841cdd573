"""Runs all tests once per database and sums up: ``python -m tests.run [pytest's options]``.

Tests mostly wait for what other processes do, so several databases are tested at the same
time, with the name of each before what it says. Real servers, browsers and killed processes
share a machine then: the few tests that fail are run once more, alone, and those that pass
are told by name as unsteady.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

#: What ``tests/faults`` has larger scenarios of, on PostgreSQL: whole files of
#: ``tests/integration``, and the beginnings of names of tests in others.
IN_THE_LABORATORY: dict[str, tuple[str, ...]] = {
    "broker_down": (),
    "messages": (),
    "cancel": (
        "ordinary_code_stops",
        "code_that_does_not_listen",
        "processes_that_a_body_started",
        "cancel_against_finish",
        "all_slots_are_stopped",
    ),
    "limits": (
        "limits_hold_in_a_storm",
        "a_canceled_body_in_c",
        "the_place_of_a_dead_worker",
        "a_task_that_is_tried_again_by_hand",
    ),
    "nasty_ends": ("every_nasty_end",),
    "real_beat": ("two_beats", "messages_of_beat"),
    "worker_deaths": (
        "bodies_of_a_killed_machine",
        "a_worker_killed_before",
        "a_worker_killed_after",
        "a_child_that_is_killed",
    ),
}
#: Each run: the database and the options that choose its tests.
RUNS: dict[str, list[str]] = {
    "sqlite": [],
    "postgresql": [],
    "mariadb": ["-m", "databases"],
}
#: Databases that are tested at the same time.
AT_ONCE = 3
#: More failures than these have a cause that a second run does not remove.
RUN_AGAIN_AT_MOST = 8
FAILED, NOTHING_COLLECTED = 1, 5
COVERAGE = "--coverage"
PYTEST = ["-m", "pytest"]
#: The order in which pytest counts in its last line.
KINDS = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "error")


@dataclass
class Outcome:
    """What came of the tests on one database."""

    database: str
    status: int
    counts: Counter[str] = field(default_factory=Counter)
    #: The tests that failed, by pytest's name.
    bad: list[str] = field(default_factory=list)


def main(argv: Sequence[str]) -> int:
    """Run pytest per database; return 0 when every test passed, unsteady ones at last.

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
    outcomes = _all_runs(databases(), argv)
    unsteady = [one for outcome in outcomes for one in run_again(outcome)]
    total = sum((outcome.counts for outcome in outcomes), Counter[str]())
    worst = next((one.status for one in outcomes if one.status), 0)
    if not worst and not total["passed"]:
        worst = NOTHING_COLLECTED
    if measured:
        coverage("combine", "--quiet")
        worst = worst or coverage("report")
    for name in unsteady:
        print(f"unsteady: {name} failed first and passed alone", flush=True)  # noqa: T201
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


def _all_runs(names: Sequence[str], argv: Sequence[str]) -> list[Outcome]:
    """Run pytest on each database; return what came of them."""
    if len(names) == 1:
        return [run(names[0], argv)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(
            pool.map(lambda name: run(name, argv, mark=f"{name[:10]:10} | "), names)
        )


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """Return what came of several runs on one database, as if they had been one."""
    return Outcome(
        outcomes[0].database,
        max(outcome.status for outcome in outcomes),
        sum((outcome.counts for outcome in outcomes), Counter()),
        [name for outcome in outcomes for name in outcome.bad],
    )


def run_again(outcome: Outcome) -> list[str]:
    """Run what failed once more, alone; return what passes, now counted as such."""
    bad = outcome.bad
    if outcome.status != FAILED or not 0 < len(bad) <= RUN_AGAIN_AT_MOST:
        return []
    print(f"\nAgain, alone, on {outcome.database}:", flush=True)  # noqa: T201
    again = run(outcome.database, ["-p", "no:randomly", *bad], again=True)
    if again.status not in (0, FAILED):
        return []
    outcome.status = again.status
    outcome.counts["passed"] += again.counts["passed"]
    outcome.counts["failed"], outcome.counts["error"] = len(again.bad), 0
    return [f"{name} ({outcome.database})" for name in bad if name not in again.bad]


def run(
    database: str, argv: Sequence[str], *, mark: str = "", again: bool = False
) -> Outcome:
    """Run pytest on one database; return what came of it.

    ``mark`` stands before each line of what it says, where several speak at once. ``again``
    tells the tests that they failed before.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "summary.json"
        chosen = [*RUNS.get(database, []), *_left_out(database, argv), *argv]
        command = [sys.executable, *PYTEST, *chosen]
        environment = {
            **os.environ,
            "TASKCONTROL_TEST_DATABASE": database,
            "TASKCONTROL_TEST_SUMMARY": str(path),
            "TASKCONTROL_TEST_AGAIN": "1" if again else "",
        }
        # This process may have a laboratory. Two runs in one would take each other's messages.
        environment.pop("TASKCONTROL_TEST_DIR", None)
        print(f"{mark}==== {database} ====", flush=True)  # noqa: T201
        if mark:
            status = _run_marked(command, environment, mark)
        else:
            status = subprocess.run(command, env=environment, check=False).returncode
        told = json.loads(path.read_text()) if path.exists() else {"counts": {}, "bad": []}
    status = 0 if status == NOTHING_COLLECTED else status
    return Outcome(database, status, Counter(told["counts"]), told["bad"])


def _left_out(database: str, argv: Sequence[str]) -> list[str]:
    """Return what is not run unless somebody names what to run."""
    if database != "postgresql" or any(one.startswith("tests") for one in argv):
        return []
    options = []
    for name, those in IN_THE_LABORATORY.items():
        file = f"tests/integration/test_{name}.py"
        options += [f"--deselect={file}::test_{one}" for one in those]
        options += [] if those else [f"--ignore={file}"]
    return options


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
