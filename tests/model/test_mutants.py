"""Every mutant still finds the guard that it leaves out, and the model knows the same ones."""

from __future__ import annotations

import ast

import pytest

from tests.model import mutating
from tests.model.mutants import MUTANTS, QUICK
from tests.model.mutating import Copy, Edit, Mutant
from tests.model.protocol import GUARDS, IMPLIED, SWEEPS

# No database is asked.
pytestmark = pytest.mark.only_on("sqlite")

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_guard_stands_where_its_mutant_looks_for_it(mutant):
    for source in mutant.sources().values():
        ast.parse(source)


@pytest.mark.parametrize("path", sorted({path for one in MUTANTS for path in one.tests}))
def test_the_test_that_is_to_notice_it_is_there(path):
    file, _, name = path.partition("::")

    text = (mutating.ROOT / "tests" / file).read_text()
    assert not name or f"def {name.partition('[')[0]}(" in text


def test_the_guards_of_the_model_are_guards_of_the_code():
    assert {*GUARDS, IMPLIED, *(f"sweep: {name}" for name in SWEEPS)} <= set(NAMES)


def test_each_has_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES)
    assert set(QUICK) <= set(NAMES)


def test_the_page_says_how_many_there_are():
    page = (mutating.ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")

    assert f" {len(MUTANTS)} guards of the code itself" in page


def test_a_guard_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="stands 0 times in first, not once"):
        Edit("first", "b", "").apply("def first():\n    a\n\n\ndef second():\n    b\n")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A tree of one guard, without which its only test waits for ever."""
    (tmp_path / "taskcontrol").mkdir()
    (tmp_path / "taskcontrol" / "room.py").write_text("GUARD = True\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_room.py").write_text(
        "import threading\n\nfrom taskcontrol.room import GUARD\n\n\n"
        "def test_that_it_ends():\n    GUARD or threading.Event().wait()\n"
    )
    monkeypatch.setattr(mutating, "COPIED", ())
    monkeypatch.setattr(mutating, "TIMEOUT", 3)
    copy = Copy(tmp_path, "")
    monkeypatch.setattr(copy, "_environment", lambda _: {"PYTHONPATH": str(tmp_path)})
    return copy


@pytest.mark.parametrize("meant", [True, False])
def test_a_run_without_an_end_is_a_kill_only_where_that_is_the_sign(copy, meant):
    guard = Edit("", "True", "False")
    mutant = Mutant("wait: ends", "room.py", (guard,), ("test_room.py",), hangs=meant)

    verdict = copy.judge(mutant)

    assert (verdict.hung, verdict.well, bool(verdict.trouble)) == (True, meant, not meant)
    assert "True" in (copy.place / "taskcontrol" / "room.py").read_text()
