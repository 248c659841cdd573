"""How the runs on the databases are chosen and summed up."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import tests.run
from tests.faults import shares
from tests.lab import LAB
from tests.run import (
    IN_THE_LABORATORY,
    RUN_AGAIN_AT_MOST,
    RUNS,
    Outcome,
    closing_line,
    databases,
    main,
    together,
)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch):
    monkeypatch.delenv("TASKCONTROL_TEST_DATABASE", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)


def test_without_a_choice_all_databases_take_part():
    chosen = databases()

    assert chosen[:2] == ["sqlite", "postgresql"]
    assert set(chosen) <= set(RUNS)


def test_the_databases_can_be_chosen(monkeypatch):
    monkeypatch.setenv("TASKCONTROL_TEST_DATABASE", "postgresql,mariadb")

    assert databases() == ["postgresql", "mariadb"]


def test_a_database_that_is_given_is_the_only_one(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@host/name")

    assert databases() == ["postgresql"]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"passed": 3}, "==== 3 passed in 1.50s ===="),
        ({"passed": 3, "skipped": 1}, "==== 3 passed, 1 skipped in 1.50s ===="),
        ({"failed": 1, "passed": 2}, "==== 1 failed, 2 passed in 1.50s ===="),
        ({"error": 1}, "==== 1 error in 1.50s ===="),
        ({"error": 2}, "==== 2 errors in 1.50s ===="),
        ({}, "==== no tests ran in 1.50s ===="),
    ],
)
def test_the_last_line_sums_up_as_pytest_does(counts, line):
    assert closing_line(Counter(counts), 1.5) == line


@pytest.mark.parametrize("mark", ["", "sqlite | "])
def test_each_run_has_a_laboratory_of_its_own(monkeypatch, mark):
    told = "import os, sys; sys.exit('TASKCONTROL_TEST_DIR' in os.environ)"
    monkeypatch.setattr(tests.run, "PYTEST", ["-c", told])
    monkeypatch.setenv("TASKCONTROL_TEST_DIR", str(LAB))

    assert tests.run.run("sqlite", [], mark=mark).status == 0


@pytest.fixture
def runs(monkeypatch):
    """What comes of each run, in order; afterwards what each was asked for."""
    asked, outcomes = [], []

    def run(database, argv, **_):
        asked.append((database, list(argv)))
        status, bad, passed = outcomes.pop(0)
        return Outcome(database, status, Counter(passed=passed, failed=len(bad)), bad)

    monkeypatch.setattr(tests.run, "run", run)
    monkeypatch.setenv("TASKCONTROL_TEST_DATABASE", "sqlite")
    return asked, outcomes


def test_a_test_that_fails_and_passes_alone_is_told_by_name(runs, capsys):
    asked, outcomes = runs
    outcomes += [(1, ["a.py::one", "a.py::two"], 5), (0, [], 2)]

    assert main([]) == 0

    assert asked[1] == ("sqlite", ["-p", "no:randomly", "a.py::one", "a.py::two"])
    said = capsys.readouterr().out
    assert "unsteady: a.py::one (sqlite) failed first and passed alone" in said
    assert "==== 7 passed in" in said


def test_a_test_that_fails_alone_too_fails_the_run(runs, capsys):
    _, outcomes = runs
    outcomes += [(1, ["a.py::one", "a.py::two"], 5), (1, ["a.py::two"], 1)]

    assert main([]) == 1

    said = capsys.readouterr().out
    assert "a.py::two (sqlite)" not in said
    assert "==== 1 failed, 6 passed in" in said


@pytest.mark.parametrize(
    ("status", "bad"), [(1, RUN_AGAIN_AT_MOST + 1), (2, 1), (3, 0), (1, 0)]
)
def test_what_a_second_run_would_not_mend_fails_at_once(runs, status, bad):
    asked, outcomes = runs
    outcomes += [(status, [f"a.py::{n}" for n in range(bad)], 5)]

    assert main([]) == status
    assert len(asked) == 1


def test_a_second_run_that_breaks_mends_nothing(runs):
    _, outcomes = runs
    outcomes += [(1, ["a.py::one"], 5), (2, [], 0)]

    assert main([]) == 1


@pytest.mark.parametrize(
    ("name", "test"),
    [(name, one) for name, those in IN_THE_LABORATORY.items() for one in those or ("",)],
)
def test_what_is_left_to_the_laboratory_is_there(name, test):
    text = Path("tests/integration", f"test_{name}.py").read_text()

    assert f"\ndef test_{test}" in text


def test_runs_that_share_their_tests_count_as_one():
    one = Outcome("postgresql", 1, Counter(passed=3, failed=1), ["a.py::one"])
    two = Outcome("postgresql", 0, Counter(passed=4), [])

    assert together([one, two]) == Outcome(
        "postgresql", 1, Counter(passed=7, failed=1), ["a.py::one"]
    )


@pytest.fixture
def takes(monkeypatch, tmp_path):
    """What another run says of a file when it comes to it."""
    monkeypatch.setenv(shares.VARIABLE, str(tmp_path))
    return shares.is_ours.__wrapped__


def test_a_file_of_the_laboratory_goes_to_the_first_that_comes_to_it(takes):
    assert takes(Path("test_lost.py"))

    assert not takes(Path("test_lost.py"))
    assert takes(Path("test_limits.py"))


def test_a_run_that_shares_with_nobody_takes_everything(takes, monkeypatch):
    monkeypatch.delenv(shares.VARIABLE)

    assert takes(Path("test_lost.py"))
    assert takes(Path("test_lost.py"))
