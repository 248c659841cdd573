"""Whether the moment is good to deploy."""

from __future__ import annotations

import pytest

from taskcontrol import deployment
from taskcontrol.deployment import busy_tasks
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, seconds_ago

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(deployment, "PAUSE", 0.01)


@pytest.fixture
def looks(monkeypatch) -> list[list[TaskLog]]:
    """What each look saw; a test may do something between two of them."""
    seen: list[list[TaskLog]] = []
    look = deployment._look

    def note() -> list[TaskLog]:
        seen.append(look())
        return seen[-1]

    monkeypatch.setattr(deployment, "_look", note)
    return seen


def test_three_looks_must_find_nothing(looks):
    make_task()
    make_task(Status.PAUSED)
    make_task(Status.FAILED, retry_at=seconds_ago(1), max_retries=1)
    make_task(Status.FINISHED)

    assert busy_tasks() == []
    assert looks == [[], [], []]


def test_what_is_sent_running_or_stopping_is_named_the_longest_running_first(looks):
    sent = make_task(Status.QUEUED)
    young = make_task(Status.STARTED, started_at=seconds_ago(1))
    old = make_task(Status.STARTED, started_at=seconds_ago(9))
    stopping = make_task(Status.CANCELED, occupies=True, started_at=seconds_ago(5))

    assert busy_tasks() == [old, stopping, young, sent]
    assert len(looks) == 1


def test_a_task_that_shows_up_at_the_last_look_counts(monkeypatch):
    task = make_task(Status.QUEUED)
    answers = iter([[], [], [task]])
    monkeypatch.setattr(deployment, "_look", lambda: next(answers))

    assert busy_tasks() == [task]


def test_waiting_ends_when_three_looks_in_a_row_find_nothing(monkeypatch):
    task = make_task(Status.QUEUED)
    answers = iter([[task], [], [task], [], [], []])
    monkeypatch.setattr(deployment, "_look", lambda: next(answers))

    assert busy_tasks(wait=60) == []
    assert list(answers) == []


def test_waiting_ends_when_its_time_is_over():
    task = make_task(Status.STARTED)

    assert busy_tasks(wait=0.1) == [task]
