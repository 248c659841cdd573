"""The lines in which tasks wait: equal tasks share one, on every machine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, strategies as st

from taskcontrol.lanes import lane_of, ready_lane
from taskcontrol.models import TaskLog
from tests.factories import make_task, seconds_ago

pytestmark = pytest.mark.databases

NAMES = ["a", "b", "ab", "a.b", "", "0", "None"]


def test_the_number_of_a_lane_is_the_same_on_every_machine():
    assert lane_of("default", "tests.tasks.nothing", None) == 2140770904704812287
    assert lane_of("default", "tests.tasks.nothing", 0) != 2140770904704812287


def test_different_tasks_stand_in_different_lanes():
    keys = list(itertools.product(NAMES, NAMES, [None, -1, 0, 1, 10]))

    assert len({lane_of(*key) for key in keys}) == len(keys)


@given(st.text(), st.text(), st.none() | st.integers())
def test_a_lane_fits_into_a_bigint(queue, method, priority):
    number = lane_of(queue, method, priority)

    assert -(2**63) <= number < 2**63
    assert number == lane_of(queue, method, priority)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("columns", "ready"),
    [
        ({}, True),
        ({"run_at": seconds_ago(5)}, True),
        ({"run_at": seconds_ago(-500)}, False),
        ({"occupies": True}, False),
        ({"occupies": True, "run_at": seconds_ago(5)}, False),
    ],
)
def test_a_row_stands_in_its_lane_when_nothing_of_its_own_holds_it(columns, ready):
    task = make_task(**columns)
    TaskLog.objects.update(ready_lane=None)

    TaskLog.objects.update(ready_lane=ready_lane())

    task.refresh_from_db()
    assert task.ready_lane == (task.lane if ready else None)


@pytest.mark.django_db
def test_a_row_that_is_wanted_at_once_does_not_wait_for_its_time():
    task = make_task(run_at=seconds_ago(-500))

    TaskLog.objects.update(ready_lane=ready_lane(at_once=True))

    task.refresh_from_db()
    assert task.ready_lane == task.lane
