"""The table of parity is whole: no empty cell, and each test and page that it names exists."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

# It reads files, and one run does for all databases.
pytestmark = pytest.mark.only_on("sqlite")

HOME = Path(__file__).parent.parent
PAGE = (HOME / "docs" / "parity.md").read_text(encoding="utf-8")
#: The sections, each with its table.
SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
#: How many faults are known, and must be beaten.
FAULTS = 30


def rows(section: str) -> list[list[str]]:
    """Return the cells of a section's table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines][2:]


ROWS = [row for section in SECTIONS for row in rows(section)]
#: The file and the name of each test, which may stand in a class.
NAMED_TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(?:\w+::)?(\w+)`", PAGE)))


@cache
def functions_of(path: str) -> set[str]:
    """Return the names of the tests in a file."""
    text = (HOME / path).read_text(encoding="utf-8")
    return set(re.findall(r"^ *def (test_\w+)", text, re.MULTILINE))


def test_every_row_has_four_cells_and_none_is_empty():
    assert len(ROWS) > 150
    assert [row for row in ROWS if len(row) != 4 or not all(row)] == []


def test_every_row_names_a_test():
    assert [row for row in ROWS if "`tests/" not in " ".join(row)] == []


def test_every_row_of_what_is_promised_names_a_page():
    for section in SECTIONS:
        if "| page |" in section:
            assert [row for row in rows(section) if "](" not in row[3]] == []


@pytest.mark.parametrize(("path", "name"), NAMED_TESTS)
def test_a_test_that_is_named_exists(path, name):
    assert name in functions_of(path)


def test_every_fault_has_its_row():
    faults = [row[0] for row in ROWS if re.fullmatch(r"W\d+", row[0])]

    assert faults == [f"W{number}" for number in range(1, FAULTS + 1)]


@pytest.mark.parametrize(
    "path", ["tests/test_seed_examples.py", "tests/live/test_seed_javascript.py"]
)
def test_every_test_of_the_examples_is_in_the_table(path):
    named = {name for file, name in NAMED_TESTS if file == path}

    assert functions_of(path) - named == set()


def test_nothing_is_pending_any_more():
    assert [row for row in ROWS if "pending;" in row[1] or "are pending" in row[2]] == []
