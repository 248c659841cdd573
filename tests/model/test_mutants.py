"""Every mutant still finds the guard that it leaves out, and the model knows the same ones."""

from __future__ import annotations

import ast

import pytest

from tests.model.mutants import MUTANTS, QUICK
from tests.model.mutating import Edit
from tests.model.protocol import GUARDS, IMPLIED, SWEEPS

# No database is asked.
pytestmark = pytest.mark.only_on("sqlite")

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_guard_stands_where_its_mutant_looks_for_it(mutant):
    ast.parse(mutant.source())


def test_the_guards_of_the_model_are_guards_of_the_code():
    assert {*GUARDS, IMPLIED, *(f"sweep: {name}" for name in SWEEPS)} <= set(NAMES)


def test_each_has_a_name_of_its_own():
    assert len(set(NAMES)) == len(NAMES)
    assert set(QUICK) <= set(NAMES)


def test_a_guard_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="stands 0 times in first, not once"):
        Edit("first", "b", "").apply("def first():\n    a\n\n\ndef second():\n    b\n")
