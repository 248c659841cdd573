"""Accounted for: what real workers, a real broker and the rows say is matched under faults."""

from __future__ import annotations

import random

import taskcontrol
from taskcontrol import broker as courier, lifecycle
from taskcontrol.accounting.looks import account, look
from taskcontrol.accounting.sweep import write_down
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.incidents import unresolved
from taskcontrol.models import Incident, TaskLog
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.factories import make_type
from tests.faults.figures import figure
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended, is_alive, kinds
from tests.waiting import always, eventually

Kind = Incident.Kind
#: Of the worker and of this process; who is lost is decided here alone.
TIMES = {"HEARTBEAT_INTERVAL": 0.5, "RESEND_AFTER": 2.0, "ACCOUNT_INTERVAL": 0.5}
PATIENT = {**TIMES, "WORKER_LOST_AFTER": 60.0}


def test_rows_messages_and_bodies_are_accounted_for_under_faults(
    start_worker, broker, record, conf
):
    """One worker for all: it gives its word twice a second, and accounts as often."""
    conf(**PATIENT)
    for name in ("recorded", "slow_at_first"):
        make_type(f"tests.tasks.{name}")
    worker = start_worker(conf=PATIENT, concurrency=2)

    told = only_working()
    told |= lost_doubled_and_forged(worker, broker)
    told |= vouched_for_and_silent(worker, record, conf)
    told |= taken_for_lost(record)

    eventually(lambda: not unresolved().exists(), why=_unresolved)
    assert set(record.starts().values()) == {1}
    figure("accounted for", **told)


def only_working():
    """A worker that works is nothing to tell of, whenever one looks."""
    number = sized(24, 4000)
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0.02) for _ in range(number)]
    looks = 0
    while TaskLog.objects.unended().exists():
        assert account().standing == []
        looks += 1
        always(lambda: True, 0.1)
    assert {row.status for row in all_ended(rows)} == {Status.FINISHED}
    assert not Incident.objects.exists()
    return {"tasks": number, "looks": looks, "false_alarms": 0}


def lost_doubled_and_forged(worker, broker):
    """Messages that a broker loses, doubles and forges."""
    dice = random.Random(SEED)
    worker.freeze()
    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(4)]
    dispatch_pending()
    queued = TaskLog.objects.filter(status=Status.QUEUED).order_by("pk")
    sent = list(queued.values_list("pk", flat=True))
    # The frozen worker was waiting for the first one, which lies in its socket.
    doubled, ghost = dice.choice(sent[1:]), dice.randrange(10**6, 10**9)
    assert look().findings == []

    courier.publish([message(doubled), message(ghost)])
    assert found() == [("double", doubled), ("ghost", ghost)]
    broker.flush()
    eventually(lambda: found() == [("lost", task_id) for task_id in sent])
    write_down(account())
    assert unresolved().filter(kind=Kind.LOST).count() == len(sent)

    worker.thaw()
    assert {row.status for row in all_ended(rows)} == {Status.FINISHED}
    eventually(lambda: not unresolved().exists(), why=_unresolved)
    again = Incident.objects.filter(kind=Kind.LOST, task_id__in=sent[1:])
    assert {row.repair for row in again} == {"sent again: nobody claimed its message"}
    return {"lost_messages": len(sent), "doubles": 1, "ghosts": 1}


def vouched_for_and_silent(worker, record, conf):
    """Bodies that give no sign of life, first with a parent that does, then without."""
    rows, pids = bodies(record, 2)
    keys = sorted([row.pk, 1] for row in rows)
    eventually(lambda: worker.row().held == keys)
    assert found() == []

    children = worker.freeze(main=False, children=True)
    conf(**{**PATIENT, "WORKER_LOST_AFTER": 3.5})
    always(lambda: rescue_lost_tasks() == 0, 4)
    assert found() == []

    worker.freeze()
    eventually(lambda: found() == [("lost", row.pk) for row in rows])
    assert eventually(rescue_lost_tasks) == 2
    conf(**PATIENT)
    worker.thaw()
    for child in children:
        child.resume()
    for now in all_ended(rows):
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 2, 1)
    assert not any(map(is_alive, pids))
    zombies = Incident.objects.filter(kind=Kind.ZOMBIE, resolved_at__isnull=False)
    tasks_of = zombies.values_list("task_id", flat=True)
    eventually(lambda: set(tasks_of.all()) == {row.pk for row in rows})
    return {"lost_bodies": len(rows), "stale_writes": 0}


def taken_for_lost(record):
    """A body that somebody takes for lost, so that it begins a second time beside itself."""
    (task,), (pid,) = bodies(record, 1)

    lifecycle.rescue(task.pk, 1, detail="taken for lost")

    (now,) = all_ended([task])
    assert (now.status, now.attempt) == (Status.FINISHED, 2)
    eventually(lambda: not is_alive(pid), why=lambda: str(kinds(task)))
    eventually(lambda: kinds(task) == ["rescued", "forcing", "forced"])
    assert Incident.objects.filter(kind=Kind.ZOMBIE, task_id=task.pk).exists()
    return {"zombies": 3}


def message(task_id, attempt=1):
    name = f"{dispatcher_state().site}-{task_id}-{attempt}"
    return courier.Message(task_id, attempt, "default", name, 60)


def found():
    """Return what stands: its kind and its task."""
    return sorted((str(one.kind), one.task_id) for one in account().standing)


def bodies(record, count):
    """Return so many tasks whose first attempt takes its time, and their processes."""
    before = len(record.lines("started"))
    rows = [taskcontrol.enqueue(tasks.slow_at_first, seconds=600) for _ in range(count)]
    eventually(lambda: len(record.lines("started")) == before + count, 20)
    pids = {line["task"]: line["pid"] for line in record.lines("started")}
    return rows, [pids[row.pk] for row in rows]


def _unresolved():
    return str(list(unresolved().values("kind", "task_id", "found")))
