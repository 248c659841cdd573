"""The protocol holds in every order of its steps, and each of its guards is needed (P1-P6)."""

from __future__ import annotations

import pytest

from .exploring import explore, first_wrong, happenings
from .protocol import GUARDS, IMPLIED, SWEEPS, Protocol

# No database is asked.
pytestmark = pytest.mark.only_on("sqlite")


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_nothing_goes_wrong_whatever_happens_in_whatever_order(number):
    seen = [explore(Protocol(), left) for left in happenings(number)]

    assert [(one.wrong, one.trace) for one in seen if one.wrong] == []
    assert all(one.states > 10 for one in seen)


@pytest.mark.parametrize("guard", GUARDS)
def test_without_a_guard_something_goes_wrong(guard):
    assert first_wrong(Protocol(guard), 3) is not None


@pytest.mark.parametrize("sweep", SWEEPS)
def test_without_a_sweep_a_task_or_its_place_is_lost(sweep):
    seen = first_wrong(Protocol(without=sweep), 3)

    assert seen is not None
    assert seen.wrong.startswith("nothing more will happen")


def test_a_guard_that_follows_from_the_others_is_known_as_such():
    assert first_wrong(Protocol(IMPLIED), 2) is None
