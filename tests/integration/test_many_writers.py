"""Many processes that write at once get along, on the embedded database too."""

from __future__ import annotations

import sys

import pytest

import taskcontrol
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import ended
from tests.servers.environment import site_environment
from tests.servers.process import Process
from tests.waiting import eventually

pytestmark = pytest.mark.integration

WRITE = """
import django; django.setup()
import taskcontrol
from tests import tasks
for number in range({count}):
    if number % 25:
        taskcontrol.enqueue(tasks.recorded, tag="{name}")
    else:
        taskcontrol.bulk_enqueue({{"method": tasks.nothing}} for _ in range(10))
"""


def writers(count, tmp_path):
    """Start processes that enqueue as fast as they can."""
    started = []
    for number in range(count):
        code = WRITE.format(count=100, name=number)
        process = Process(
            [sys.executable, "-c", code],
            log=tmp_path / f"writer-{number}.log",
            env=site_environment(),
        )
        process.start()
        started.append(process)
    return started


def test_four_who_enqueue_and_two_who_drain_do_not_lock_each_other_out(
    start_workers, record, tmp_path
):
    workers = start_workers({}, {})
    started = writers(4, tmp_path)

    codes = [process.wait(120) for process in started]

    assert codes == [0] * 4, "\n".join(process.tail() for process in started)
    total = 4 * (96 + 4 * 10)
    finished = TaskLog.objects.filter(status=Status.FINISHED)
    eventually(lambda: finished.count() == total, 90, every=0.2)
    assert set(record.starts().values()) == {1}
    assert not TaskEvent.objects.exists()
    for process in [*started, *(worker.process for worker in workers)]:
        said = process.log.read_text()
        assert "database is locked" not in said
        assert "Traceback" not in said, said[-3000:]


def test_a_writer_that_is_killed_in_its_transaction_holds_up_nobody(
    worker, record, tmp_path
):
    code = """
import django; django.setup()
from django.db import transaction
import taskcontrol
from tests import tasks
from tests.recording import record
with transaction.atomic():
    taskcontrol.enqueue(tasks.recorded)
    record("written")
    import time; time.sleep(60)
"""
    writer = Process(
        [sys.executable, "-c", code], log=tmp_path / "writer.log", env=site_environment()
    )
    writer.start()
    eventually(lambda: record.lines("written"), 20, why=writer.tail)

    writer.kill()

    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1
    assert record.lines("started") == []
