"""Workers as people start them: for some queues, for a while, with fresh processes."""

from __future__ import annotations

import json
import sys

import pytest
from django.core.management import call_command

import taskcontrol
from taskcontrol.models import Lock, TaskLog, Worker
from tests import tasks
from tests.lab import LAB
from tests.servers.environment import site_environment
from tests.servers.process import Process
from tests.servers.worker import QUICK
from tests.waiting import eventually

#: As the seeds write it.
QUEUES = {"myqueue": {"timeout": 5000, "background_workers": 4}}


@pytest.fixture
def burst(workshop):
    """Run a worker of the verb to its end; return its row."""
    workshop.close()
    started = []

    def run(*options):
        name = f"burst-{len(started)}"
        command = [sys.executable, "-m", "django", "taskcontrol", "worker", "--burst"]
        given = {"TASKCONTROL_TEST_CONF": json.dumps({**QUICK, "QUEUES": QUEUES})}
        process = Process(
            [*command, "--name", f"{name}@lab", *options],
            log=LAB / f"{name}.log",
            env={**site_environment(), **given},
        )
        started.append(process)
        process.start()
        eventually(lambda: not process.running, timeout=60, why=process.tail)
        assert process.wait() == 0, process.tail()
        return Worker.objects.get(hostname=f"{name}@lab")

    yield run
    for process in started:
        process.kill()


def statuses():
    return dict(TaskLog.objects.order_by("queue").values_list("queue", "status"))


def test_a_burst_runs_what_is_there_and_ends_while_others_wait(burst, conf):
    conf(QUEUES=QUEUES)
    tasks_of = {
        queue: taskcontrol.enqueue(tasks.recorded, seconds=0.1, queue=queue)
        for queue in ("short", "default", "long", "myqueue")
    }
    held = taskcontrol.enqueue(tasks.nothing, queue="short", paused=True)

    worker = burst("--queue", "short,default", "--num-workers", "1")

    assert (worker.queues, worker.pool_size) == (["default", "short"], 1)
    assert worker.left_at is not None
    taskcontrol.cancel(held)
    TaskLog.objects.filter(pk=held.pk).update(queue="held")
    assert statuses() == {
        "short": "Finished",
        "default": "Finished",
        "long": "Pending",
        "myqueue": "Pending",
        "held": "Canceled",
    }
    assert tasks_of["myqueue"].timeout == 5000

    own = burst("--queue", "myqueue")

    assert (own.queues, own.pool_size) == (["myqueue"], 4)
    assert statuses()["myqueue"] == "Finished"
    assert statuses()["long"] == "Pending"


def test_a_process_that_took_much_memory_is_replaced_after_its_task(start_worker):
    start_worker(concurrency=1, flags=["--max-memory-per-child", "300000"])

    def pid_of(method, **arguments):
        task = taskcontrol.enqueue(method, **arguments)
        eventually(lambda: TaskLog.objects.filter(pk=task.pk, status="Finished"), 20)
        row = TaskLog.objects.get(pk=task.pk)
        assert (row.attempt, row.lost_count) == (1, 0)
        return row.pid

    small = [pid_of(tasks.nothing), pid_of(tasks.nothing)]
    large = pid_of(tasks.allocate, megabytes=400)
    after = pid_of(tasks.nothing)

    assert small == [large, large]
    assert after != large


def test_the_doctor_walks_to_the_process_of_a_body_that_hangs(worker, capsys):
    task = taskcontrol.enqueue(tasks.hold_lock, key="stock", seconds=60)
    eventually(lambda: Lock.objects.filter(task=task.pk).exists(), 20)
    pid = TaskLog.objects.get(pk=task.pk).pid

    call_command("taskcontrol", "doctor", task.name)

    said = capsys.readouterr().out
    assert "OK    Started: It runs since" in said
    assert f"OK    Process: {pid} waits (sleeping)" in said
    assert f"      -> py-spy dump --pid {pid} shows the line." in said
    assert "OK    Lock: 'stock' is held by attempt 1 since" in said
    taskcontrol.cancel(task)
