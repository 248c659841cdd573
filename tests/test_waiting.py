"""The waiting of the tests."""

from __future__ import annotations

import pytest

from tests.waiting import eventually, race


def test_eventually_returns_the_first_true_value():
    values = iter([0, "", "here", "later"])

    assert eventually(lambda: next(values)) == "here"


def test_eventually_fails_with_the_last_value_and_the_reason():
    with pytest.raises(AssertionError, match=r"(?s)last value: \[\].*the log"):
        eventually(list, timeout=0.05, why=lambda: "the log")


@pytest.mark.django_db(transaction=True)
def test_race_returns_results_and_errors_in_order():
    def fail():
        raise ValueError("lost")

    won, lost = race(lambda: "won", fail)

    assert won == "won"
    assert isinstance(lost, ValueError)
