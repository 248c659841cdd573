"""Work that is done every so often, by a loop that turns faster."""

from __future__ import annotations

import pytest

from taskcontrol import timers
from taskcontrol.timers import Every


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(timers.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_first_turn_runs_and_the_next_when_the_interval_has_passed(clock):
    ran = []
    every = Every(5, lambda: ran.append(clock.now))

    for clock.now in (100, 101, 104.9, 105, 107, 110.5):
        every.run()

    assert ran == [100, 105, 110.5]


def test_a_run_that_fails_counts(clock):
    ran = []

    def fail():
        ran.append(clock.now)
        raise ValueError("failed")

    every = Every(5, fail)
    with pytest.raises(ValueError, match="failed"):
        every.run()
    clock.now += 1
    every.run()

    assert ran == [100]


def test_a_run_that_fails_is_tried_again_when_it_insists(clock):
    ran = []

    def fail():
        ran.append(clock.now)
        if len(ran) < 3:
            raise ValueError("failed")

    every = Every(5, fail, insist=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="failed"):
            every.run()
        clock.now += 1
    for clock.now in (102, 104, 107):
        every.run()

    assert ran == [100, 101, 102, 107]
