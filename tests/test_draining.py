"""A worker is asked whether it answers, and told to leave."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.draining import drain_worker, ping_worker
from taskcontrol.exceptions import BrokerUnavailable, NotPermitted
from taskcontrol.models import TaskAttempt, TaskLog, Worker
from taskcontrol.occupancy import live_workers
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user, make_worker, seconds_ago
from tests.waiting import eventually, within


@pytest.mark.django_db
@pytest.mark.databases
def test_a_drained_worker_gets_nothing_more():
    worker = make_worker()

    assert drain_worker(worker) is True

    assert not live_workers().exists()
    assert drain_worker(worker) is False


@pytest.mark.django_db
@pytest.mark.parametrize("gone", ["left_at", "lost_at", "leaving_at"])
def test_one_that_is_gone_is_not_drained(gone):
    assert drain_worker(make_worker(**{gone: seconds_ago(1)})) is False


@pytest.mark.django_db
@pytest.mark.parametrize("act", [ping_worker, drain_worker])
def test_without_the_permission_a_worker_is_left_alone(act):
    worker = make_worker()

    with pytest.raises(NotPermitted, match="control_worker"):
        act(worker, user=make_user("viewer", "view_worker"))

    assert Worker.objects.get().leaving_at is None


@pytest.mark.django_db
def test_who_is_not_there_does_not_answer(broker, monkeypatch):
    monkeypatch.setattr("taskcontrol.broker.PING_TIMEOUT", 0.1)

    assert ping_worker(make_worker()) is None


@pytest.mark.integration
def test_a_real_worker_answers_finishes_what_runs_and_leaves(start_worker):
    worker = start_worker(concurrency=1)
    row = worker.row()
    assert 0 < ping_worker(row) < 2
    offset = eventually(
        lambda: Worker.objects.exclude(clock_offset=None).first()
    ).clock_offset
    assert abs(offset) < 1
    task = taskcontrol.enqueue(tasks.recorded, seconds=1.5)
    eventually(lambda: TaskLog.objects.filter(status=Status.STARTED).exists())

    assert drain_worker(row) is True

    eventually(lambda: not worker.process.running, timeout=30, why=worker.process.tail)
    row.refresh_from_db()
    assert (row.left_at is not None, row.lost_at) == (True, None)
    task.refresh_from_db()
    assert (task.status, task.attempt) == (Status.FINISHED, 1)
    assert not TaskAttempt.objects.exists()


@pytest.mark.django_db
def test_without_a_broker_a_ping_says_so_within_seconds(broker):
    broker.process.kill()

    with within(15), pytest.raises(BrokerUnavailable):
        ping_worker(make_worker())
