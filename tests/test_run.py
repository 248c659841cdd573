"""How the runs on the databases are chosen and summed up."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.run import RUNS, closing_line, databases


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
