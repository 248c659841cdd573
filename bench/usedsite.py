"""A site after years of use: many tasks, and the types, batches, workers and people around."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F

from bench.ledger import fill
from taskcontrol import schedules
from taskcontrol.models import TaskLog, TaskType, Worker
from taskcontrol.rollup import roll_up
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state

#: Types, and people who made tasks.
TYPES, PEOPLE = 100, 20
#: Tasks that run, and seconds that the counting of what ended may take.
RUNNING, COUNTING = 8, 120.0

CREATED = "NOW() - (%(number)s - n) * INTERVAL '5 seconds'"
#: How row ``n`` differs from those of the plain ledger.
LIVED = {
    "created_at": CREATED,
    "position": f"(EXTRACT(EPOCH FROM {CREATED}) * 1000000)::bigint",
    "queued_at": f"CASE WHEN stands <> 'Pending' THEN {CREATED} END",
    "started_at": f"CASE WHEN stands <> 'Pending' THEN {CREATED} + INTERVAL '2 seconds' END",
    "ended_at": f"CASE WHEN stands <> 'Pending' THEN {CREATED} + INTERVAL '9 seconds' END",
    "time_taken": "CASE WHEN stands <> 'Pending' THEN n % 9 * INTERVAL '1 second' END",
    "arguments": "JSONB_BUILD_OBJECT('customer', JSONB_BUILD_OBJECT('id', n))",
    "error_message": "CASE WHEN stands = 'Failed' THEN 'ValueError: no file ' || n ELSE '' END",
    "created_by_id": f"CASE WHEN n % 4 = 0 THEN n % {PEOPLE} + 1 END",
    "document_type": "CASE WHEN n % 5 = 0 THEN 'shop.Invoice' ELSE '' END",
    "document_name": "CASE WHEN n % 5 = 0 THEN 'INV-' || n ELSE '' END",
    "batch_id": (
        "CASE WHEN n % 10 = 0 THEN 'batch-' || n / 1000 WHEN n % 20 = 1 THEN 'big' END"
    ),
}
BATCHES = """
INSERT INTO taskcontrol_taskbatch
    (id, title, total, pruned, callbacks, on_failure, paused_reason, created_at)
SELECT batch_id, batch_id, COUNT(*), '{}', '{}', 'continue', '', MIN(created_at)
FROM taskcontrol_tasklog WHERE batch_id IS NOT NULL GROUP BY batch_id
"""
EVENTS = """
INSERT INTO taskcontrol_taskevent (task_id, at, kind, old, new, attempt, detail)
SELECT id, ended_at, 'canceled', 'Pending', 'Canceled', 1, '' FROM taskcontrol_tasklog
WHERE status = 'Canceled'
"""


def build(number: int) -> User:
    """Store it all, with ``number`` tasks; return a superuser."""
    fill(number, **LIVED)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE taskcontrol_taskbatch, taskcontrol_taskevent")
        cursor.execute(BATCHES)
        cursor.execute(EVENTS)
    people = (User(pk=n + 1, username=f"person-{n}") for n in range(PEOPLE))
    User.objects.bulk_create(people, ignore_conflicts=True)
    names = [f"bench.bodies.m{n}" for n in range(TYPES)]
    types = (TaskType(method=name) for name in names)
    TaskType.objects.bulk_create(types, ignore_conflicts=True)
    for hour in range(24):
        schedules.create("bench.bodies.noop", cron=f"0 {hour} * * *", name=f"at {hour}")
    _start(RUNNING)
    dispatcher_state()
    roll_up(seconds=COUNTING)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    boss = {"is_staff": True, "is_superuser": True}
    return User.objects.get_or_create(pk=PEOPLE + 1, username="boss", defaults=boss)[0]


def _start(number: int) -> None:
    """Let the newest waiting tasks run on a worker."""
    worker = Worker.objects.create(
        hostname="celery@here", pid=1, pool="prefork", pool_size=number, queues=["default"]
    )
    waiting = TaskLog.objects.filter(status=Status.PENDING).order_by("-pk")
    TaskLog.objects.filter(
        pk__in=list(waiting.values_list("pk", flat=True)[:number])
    ).update(
        status=Status.STARTED,
        worker=worker,
        occupies=True,
        attempt=1,
        ready_lane=None,
        queued_at=F("created_at"),
        started_at=F("created_at"),
    )
