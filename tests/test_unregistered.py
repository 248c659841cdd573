"""A worker whose row could not be written: nobody would rescue what it runs."""

from __future__ import annotations

import pytest

from taskcontrol import execution
from taskcontrol.models import Worker
from taskcontrol.status import Status
from taskcontrol.timers import Every
from tests.factories import make_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


@pytest.fixture
def unregistered(monkeypatch):
    """This process belongs to a worker that has no row."""
    here = execution.Here()
    here.in_worker = True
    monkeypatch.setattr(execution, "here", here)
    return here


def test_it_leaves_a_task_to_others_p1(unregistered):
    task = make_task(Status.QUEUED)

    assert execution.claim(task.pk, task.attempt) is None

    task.refresh_from_db()
    assert task.status == Status.QUEUED


def test_once_registered_it_claims_under_its_row(unregistered):
    task = make_task(Status.QUEUED)
    worker = Worker.objects.create(hostname="w", pid=1, pool="prefork", pool_size=1)
    unregistered.worker_id = worker.pk

    claimed = execution.claim(task.pk, task.attempt)

    assert claimed is not None
    assert claimed.worker_id == worker.pk


def test_a_sign_of_life_that_failed_is_given_at_the_next_look():
    told = []

    def sign():
        told.append("sign")
        if len(told) == 1:
            raise OSError

    beat = Every(1000, sign, insist=True)
    with pytest.raises(OSError):  # noqa: PT011 - the one above
        beat.run()
    beat.run()
    beat.run()

    assert told == ["sign", "sign"]
