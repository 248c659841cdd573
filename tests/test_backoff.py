"""Backoff: the shapes that it takes, and the delays that come of it."""

from __future__ import annotations

import datetime as dt

import pytest

from taskcontrol.backoff import completed, delay

PLAIN = {"factor": 2.0, "max": 3600.0, "jitter": False}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (True, {"factor": 2.0, "max": 3600.0, "jitter": True}),
        ({}, {"factor": 2.0, "max": 3600.0, "jitter": True}),
        ({"factor": 3}, {"factor": 3.0, "max": 3600.0, "jitter": True}),
        ({"max": dt.timedelta(minutes=5)}, {"factor": 2.0, "max": 300.0, "jitter": True}),
        ({"jitter": False}, PLAIN),
        (False, False),
    ],
    ids=str,
)
def test_a_backoff_is_stored_complete(given, stored):
    assert completed(given) == stored


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (5, "True, False or {.*} with any of these keys, not 5"),
        ("yes", "True, False or"),
        ({"factr": 2}, "True, False or .* not {'factr': 2}"),
        ({"factor": 0}, "'factor' is from 1 to 100, not 0"),
        ({"factor": True}, "'factor' is from 1 to 100, not True"),
        ({"factor": float("nan")}, "'factor' is from 1 to 100, not nan"),
        (
            {"max": -1},
            "'max' is seconds or a timedelta, not negative and at most ten years",
        ),
        ({"max": float("inf")}, "'max' is seconds or a timedelta"),
        ({"jitter": 1}, "'jitter' is True or False, not 1"),
    ],
    ids=str,
)
def test_another_shape_is_refused_with_a_sentence(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        completed(given)


def test_delays_grow_by_the_factor_up_to_the_cap():
    grown = [delay(10, {**PLAIN, "max": 100.0}, made) for made in range(6)]

    assert grown == [10, 20, 40, 80, 100, 100]


def test_without_a_delay_of_its_own_the_first_one_is_a_second():
    assert [delay(None, PLAIN, made) for made in range(3)] == [1, 2, 4]
    assert delay(0, PLAIN, 0) == 1


def test_a_number_that_no_float_holds_is_the_cap():
    assert delay(1, PLAIN, 30_000) == 3600


def test_jitter_takes_off_up_to_half_and_never_adds():
    drawn = {delay(100, {**PLAIN, "jitter": True}, 0) for _ in range(200)}

    assert len(drawn) > 100
    assert all(50 <= one <= 100 for one in drawn)


@pytest.mark.parametrize("none", [None, False])
def test_without_backoff_the_delay_stays(none):
    assert [delay(7, none, made) for made in (0, 1, 9)] == [7, 7, 7]
    assert delay(None, none, 3) == 0
