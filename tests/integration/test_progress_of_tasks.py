"""What a running body says of its progress, with a real worker."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import ended, row
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def step(number, total):
    return {"count": number, "total": total, "description": f"step {number}"}


def test_the_last_message_is_seen_while_the_body_goes_on_in_silence(worker):
    task = taskcontrol.enqueue(tasks.report, total=100, seconds=60)

    eventually(lambda: row(task).progress == step(100, 100), 20)

    assert row(task).status == Status.STARTED
    assert row(task).rev < 10
    taskcontrol.cancel(task)
    assert ended(task).progress == step(100, 100)


def test_the_last_message_of_a_quick_body_lands_with_its_end(worker):
    now = ended(taskcontrol.enqueue(tasks.report, total=7))

    assert (now.status, now.progress) == (Status.FINISHED, step(7, 7))
