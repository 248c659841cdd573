"""Retries by hand of tasks that something had held back or ended."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.status import Status
from tests.factories import make_task, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.mark.parametrize("column", ["run_at", "expires_at"])
@pytest.mark.parametrize("age", [-3600, 3600])
def test_a_retry_by_hand_is_ready_at_once_whatever_time_the_task_had(column, age):
    task = make_task(Status.CANCELED, **{column: seconds_ago(age)})

    taskcontrol.retry(task)

    task.refresh_from_db()
    assert (task.status, task.ready_lane) == (Status.PENDING, task.lane)
    assert (task.run_at, task.expires_at) == (None, None)


def test_a_retry_by_hand_waits_for_the_body_that_may_still_run():
    task = make_task(Status.CANCELED, occupies=True)

    taskcontrol.retry(task)

    task.refresh_from_db()
    assert (task.status, task.ready_lane) == (Status.PENDING, None)
