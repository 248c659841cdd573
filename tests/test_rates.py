"""A rate holds over every period, however passes fall, and what it remembers stays small."""

from __future__ import annotations

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from taskcontrol.exceptions import InvalidCall
from taskcontrol.options import rate
from taskcontrol.rates import (
    DAY,
    FINEST,
    MOST,
    UNLIMITED,
    Rate,
    Sends,
    left,
    opens_at,
    rate_of,
)

NOW = 1_790_000_000_000_000


@pytest.mark.parametrize("text", ["1/s", "10/m", "500/h", f"{MOST}/d"])
def test_a_rate_reads_as_it_is_written(text):
    assert str(rate_of(text)) == text
    assert rate("rate_limit", f" {text} ") == text


@pytest.mark.parametrize(
    "wrong",
    ["10", "0/m", "-1/m", "1.5/s", "10/w", "10/min", "m", "1000001/s", "\u0661/s", 7],
)
def test_anything_else_is_refused_with_what_may_be_said(wrong):
    with pytest.raises(InvalidCall, match=r'rate_limit must be .* "10/m"'):
        rate("rate_limit", wrong)


def test_a_rate_that_nobody_can_read_in_the_database_holds_nothing_back():
    assert Sends({}, NOW).left("a.b", "10 per minute") == UNLIMITED
    assert Sends({}, NOW).left("a.b", "") == UNLIMITED


def test_a_rate_says_itself_in_words():
    assert rate_of("1000/h").in_words == "1,000 an hour"


rates = st.builds(Rate, st.integers(1, 5) | st.integers(1, 400), st.sampled_from("smhd"))


def run(one, passes):
    """Send as much as is asked for and left at each pass; return (microsecond, number)s."""
    now, by_method, story = NOW, {}, []
    for pause, wanted in passes:
        now += round(pause * one.period)
        sends = Sends(by_method, now)
        number = min(wanted, sends.left("a.b", str(one)))
        if number:
            by_method = sends.with_more({("a.b", str(one)): number})
            story.append((now, number))
    return story, by_method.get("a.b", []), now


passes = st.lists(
    st.tuples(st.floats(0, 1.5) | st.floats(0, 0.02), st.integers(0, 500)), max_size=150
)


@given(one=rates, passes=passes)
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_period_sees_more_than_the_rate_says(one, passes):
    story, kept, _now = run(one, passes)

    for begin, _ in story:
        within = [number for at, number in story if 0 <= at - begin < one.period]
        assert sum(within) <= one.number
    assert len(kept) <= FINEST + 2


@given(one=rates, passes=passes)
@hypothesis_settings(max_examples=300, deadline=None)
def test_what_has_left_the_period_is_free_again(one, passes):
    story, kept, now = run(one, passes)
    # A rate of many frees what was sent a hundredth of a period later at most.
    slack = one.period // FINEST if one.number > FINEST else 0
    counting = sum(number for at, number in story if now - at < one.period + slack)

    assert left(one, kept, now) >= one.number - counting
    assert left(one, kept, now + one.period) == one.number


@given(one=rates, passes=passes)
@hypothesis_settings(max_examples=300, deadline=None)
def test_the_next_may_be_sent_at_the_time_that_is_told_and_not_before(one, passes):
    _story, kept, now = run(one, passes)
    opens = opens_at(one, kept, now)

    assert left(one, kept, max(opens, now)) > 0
    if opens > now:
        assert left(one, kept, opens - 1) == 0
    else:
        assert left(one, kept, now) > 0


def test_a_lowered_rate_waits_until_enough_has_left():
    kept = [[NOW, 3], [NOW + 1, 1], [NOW + 2, 1]]

    assert opens_at(Rate(2, "s"), kept, NOW + 5) == NOW + 1 + 1_000_000


def test_a_clock_that_was_set_back_by_days_holds_nothing_back():
    assert left(Rate(1, "m"), [[NOW + 2 * DAY, 1]], NOW) == 1


def test_what_was_sent_a_day_ago_is_forgotten():
    sends = Sends({"old.type": [[NOW - DAY, 1]], "late.type": [[NOW - 1, 1]]}, NOW)

    assert sends.with_more({("a.b", "2/m"): 2}).keys() == {"late.type", "a.b"}
