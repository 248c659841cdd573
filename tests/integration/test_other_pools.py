"""P1: what nothing runs any more is found on pools of threads and of one too."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.models import TaskLog, Worker as WorkerRow
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_type
from tests.integration.watching import all_ended, free, kinds, row
from tests.servers.worker import QUICK
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

POOLS = {"short": "threads", "long": "solo"}


@pytest.fixture
def workers(start_workers):
    """A worker of each pool, by the queue that it serves."""
    started = start_workers(
        *(
            {"queues": [queue], "pool": pool, "concurrency": 1}
            for queue, pool in POOLS.items()
        )
    )
    return dict(zip(POOLS, started, strict=True))


def of_each(workers, status, **columns):
    """Return a row for each worker that says that it runs there, which it does not."""
    return [
        make_task(status, queue=queue, worker=worker.row(), occupies=True, **columns)
        for queue, worker in workers.items()
    ]


def test_a_started_task_that_nothing_runs_runs_again_p1(workers):
    make_type(concurrency_limit=2)

    # As after an end that the database did not take.
    lost = of_each(workers, Status.STARTED)

    for now in all_ended(lost, 15):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)
        assert kinds(now) == ["rescued"]


def test_the_place_of_a_canceled_task_that_nothing_runs_is_freed_p4(workers):
    for task in of_each(workers, Status.CANCELED):
        free(task)
        assert kinds(task) == ["gone"]


def test_a_body_that_runs_is_vouched_for_and_one_that_goes_on_keeps_its_place(
    workers, record
):
    make_type("tests.tasks.recorded")
    seconds = QUICK["WORKER_LOST_AFTER"]
    rows = [
        taskcontrol.enqueue(tasks.recorded, queue=queue, seconds=seconds) for queue in POOLS
    ]
    eventually(lambda: len(record.lines("started")) == 2, 20)
    taskcontrol.cancel(rows[0])

    always(lambda: row(rows[0]).occupies or len(record.lines("ended")), seconds / 2)
    always(lambda: row(rows[1]).status != Status.PENDING, seconds / 2)

    canceled, finished = all_ended(rows, 20)
    assert (canceled.status, finished.status) == (Status.CANCELED, Status.FINISHED)
    assert [now.attempt for now in (canceled, finished)] == [1, 1]
    assert set(record.starts().values()) == {1}
    assert TaskLog.objects.filter(lost_count__gt=0).count() == 0
    assert not WorkerRow.objects.exclude(lost_at=None).exists()
