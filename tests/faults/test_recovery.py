"""Working again within seconds: after a restart of the broker, of the database, of a worker."""

from __future__ import annotations

import time

import pytest
from django.db import InterfaceError, OperationalError, connections

import taskcontrol
from taskcontrol.conf import Conf
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.faults.figures import figure
from tests.faults.scene import Scene, patiently
from tests.faults.tiers import sized
from tests.integration.watching import is_alive, story
from tests.servers.worker import QUICK
from tests.waiting import eventually

pytestmark = pytest.mark.integration

TIMES = sized(1, 10)
#: Seconds in which a restart is over, and in which a task of a killed worker runs elsewhere.
RESTART, ELSEWHERE = 15.0, 30.0
#: What a site has that sets nothing: tests of other things use shorter times.
DEFAULTS = {name: getattr(Conf, name) for name in QUICK}


def test_everything_works_again_within_seconds_with_default_settings(
    workshop, broker, database_server, record
):
    workshop.close()  # the worker that others share would take some of the tasks
    took = {"broker": [], "database": [], "worker": []}
    with Scene(broker, database_server, conf=DEFAULTS, more=False) as scene:
        for _ in range(TIMES):
            everybody_is_there(scene)
            took["broker"].append(after_a_restart(broker))
            took["database"].append(after_a_restart(database_server))
            took["worker"].append(after_the_loss_of_a_worker(scene, record))

    assert max(took["broker"]) <= RESTART, took
    assert max(took["database"]) <= RESTART, took
    assert max(took["worker"]) <= ELSEWHERE, took
    worst = {f"{what}_seconds": max(seconds) for what, seconds in took.items()}
    figure("recovery", times=TIMES, **worst)


def everybody_is_there(scene):
    """Wait until each worker takes tasks."""
    for machine in scene.machines:
        eventually(machine.worker.ready, 60, every=0.1, why=machine.worker.process.tail)


def after_a_restart(server):
    """Kill a server under running bodies, start it; return how long a new task takes then."""
    runs = taskcontrol.enqueue(tasks.recorded, seconds=2)
    eventually(lambda: _status(runs) == Status.STARTED, 20, why=lambda: story(runs))
    server.kill()
    server.start()
    began = time.monotonic()
    after = _enqueued()
    eventually(lambda: _status(after) == Status.FINISHED, 40, why=lambda: story(after))
    took = round(time.monotonic() - began, 1)
    # The body that ran meanwhile came to its end, in the same attempt.
    eventually(lambda: _status(runs) == Status.FINISHED, 40, why=lambda: story(runs))
    assert TaskLog.objects.get(pk=runs.pk).attempt == 1, story(runs)
    return took


def after_the_loss_of_a_worker(scene, record):
    """Kill a worker with all it runs; return how long until its body runs elsewhere."""
    record.clear()
    task = taskcontrol.enqueue(tasks.slow_at_first, seconds=120)
    first = eventually(lambda: record.lines("started", task=task.pk), 30)[0]
    machine = next(
        one
        for one in scene.machines
        if first["pid"] in [child.pid for child in one.worker.children()]
    )
    machine.worker.kill()
    began = time.monotonic()
    assert not is_alive(first["pid"])
    again = eventually(
        lambda: record.lines("started", task=task.pk, attempt=2),
        60,
        why=lambda: story(task),
    )
    took = again[0]["at"] - began
    eventually(lambda: _status(task) == Status.FINISHED, 20, why=lambda: story(task))
    machine.worker.launch()
    return round(took, 1)


def _enqueued():
    """Enqueue as a caller does, who tries again when the database was away."""
    while True:
        try:
            return taskcontrol.enqueue(tasks.recorded)
        except (OperationalError, InterfaceError):
            connections["default"].close()


def _status(row):
    return patiently(
        lambda: TaskLog.objects.values_list("status", flat=True).get(pk=row.pk)
    )
