"""The table of moves and the groups of statuses."""

from __future__ import annotations

import pytest

from taskcontrol.status import ACTIVE, MOVES, TERMINAL, WAITING, Status, sources_of


def test_statuses_are_stored_by_the_names_that_people_read():
    assert Status.values == [
        "Pending",
        "Paused",
        "Queued",
        "Started",
        "Finished",
        "Failed",
        "Canceled",
    ]
    assert all(status.value == status.label for status in Status)


def test_every_status_has_its_place_in_the_table():
    assert set(MOVES) == set(Status)


@pytest.mark.parametrize("status", Status)
def test_each_arrow_leads_elsewhere_and_tells_why(status):
    for target, story in MOVES[status].items():
        assert target is not status
        assert isinstance(target, Status)
        assert len(story.split()) > 2
        assert not story.endswith(".")


def test_every_status_can_be_reached():
    reached = {Status.PENDING}
    while (
        more := {target for one in reached for target in MOVES[one]} | reached
    ) != reached:
        reached = more

    assert reached == set(Status)


def test_every_status_is_waiting_or_running_or_terminal():
    assert set(Status) == TERMINAL | WAITING | ACTIVE
    assert not TERMINAL & (WAITING | ACTIVE)
    assert {Status.QUEUED} == WAITING & ACTIVE


def test_finished_is_final():
    assert MOVES[Status.FINISHED] == {}


def test_an_ended_task_goes_on_only_by_a_retry():
    for status in TERMINAL:
        assert set(MOVES[status]) <= {Status.PENDING, Status.CANCELED}


def test_a_body_begins_only_behind_the_dispatcher():
    assert sources_of(Status.QUEUED) == {Status.PENDING}
    assert sources_of(Status.STARTED) == {Status.QUEUED}
    assert sources_of(Status.FINISHED) == {Status.STARTED, Status.QUEUED}


def test_whatever_has_not_ended_can_be_canceled():
    assert sources_of(Status.CANCELED) == set(Status) - {Status.FINISHED, Status.CANCELED}


@pytest.mark.parametrize("target", Status)
def test_sources_are_the_table_read_backwards(target):
    assert sources_of(target) == {one for one in Status if target in MOVES[one]}
