"""Tasks that come after others, on a real worker."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.status import Status
from tests import tasks
from tests.integration.test_road import ended

pytestmark = [pytest.mark.integration, pytest.mark.databases]


def test_each_of_a_chain_begins_when_the_one_before_has_ended(worker, record):
    chain = [taskcontrol.enqueue(tasks.sleep, seconds=0.2)]
    chain += [taskcontrol.enqueue(tasks.fail, after=chain[0])]
    chain += [taskcontrol.enqueue(tasks.nothing, after=chain[1].name)]

    first, second, third = (ended(task) for task in chain)

    assert second.status == Status.FAILED
    assert third.status == Status.FINISHED
    for before, after in [(first, second), (second, third)]:
        assert 0 <= (after.started_at - before.ended_at).total_seconds() < 1
