"""A worker's main process without a worker: its row, its boot, and its tasks."""

from __future__ import annotations

from types import SimpleNamespace

from taskcontrol import held, interrupts
from taskcontrol.execution import here
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.worker import Boot
from tests.factories import make_task, make_worker


def nothing_held(monkeypatch):
    """Let this process be a worker that has done nothing yet."""
    monkeypatch.setattr(held, "_held", set())
    monkeypatch.setattr(held, "_here", {})
    monkeypatch.setattr(here, "_shared", bytearray(8))
    monkeypatch.setattr(interrupts, "_leaving", bytearray(1))


def a_row():
    """Make the row of the worker whose main process this is."""
    row = make_worker()
    here.worker_id = row.pk
    return row


def a_boot(row):
    """Make the boot of a worker whose pool forks; its event loop turns at once."""
    pool = SimpleNamespace(num_processes=2, info={"processes": []})
    app = SimpleNamespace(
        amqp=SimpleNamespace(queues=SimpleNamespace(consume_from={"default": None})),
        conf=SimpleNamespace(worker_disable_prefetch=True),
    )
    transport = SimpleNamespace(driver_type="redis")
    consumer = SimpleNamespace(
        app=app,
        pool=pool,
        hostname="w",
        connection=SimpleNamespace(transport=transport),
    )
    boot = Boot(consumer)
    boot.prefork, boot.row = True, row
    return boot


def mine(row, status, **columns):
    """Make a task that the worker of ``row`` has claimed."""
    columns = {"occupies": True, "worker": row, **columns}
    return make_task(status, **columns)


def now(task):
    """Return the row of a task as it is now."""
    return TaskLog.objects.get(pk=task.pk)


def told(task):
    """Return the kinds of its events, in their order."""
    events = TaskEvent.objects.filter(task=task.pk).order_by("pk")
    return list(events.values_list("kind", flat=True))
