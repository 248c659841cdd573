"""What an undisturbed task costs: no session, no event, no leftover, no connection."""

from __future__ import annotations

import pytest
from django.db import connection

import taskcontrol
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import all_ended
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def drain(count, **options):
    """Run so many short tasks to their end."""
    batch = taskcontrol.bulk_enqueue(
        ({"method": tasks.nothing} for _ in range(count)), **options
    )
    rows = TaskLog.objects.filter(batch_id=batch)
    eventually(lambda: rows.filter(status=Status.FINISHED).count() == count, 60)
    return rows


def sessions():
    """Return how many sessions this database has had, as PostgreSQL counts them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        )
        return cursor.fetchone()[0]


def backends():
    """Return the process ids of the server's connections to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend'"
        )
        return {pid for (pid,) in cursor.fetchall()}


@pytest.mark.only_on("postgresql")
def test_no_task_opens_a_session(worker):
    drain(50)
    before, alive = sessions(), backends()

    drain(200)

    # A child of a worker that writes for it may ask the database for the first time here.
    assert sessions() - before <= 1 + len(worker.children())
    assert alive <= backends()
    assert len(backends()) <= len(alive) + len(worker.children())


def test_an_undisturbed_task_writes_no_event_and_no_attempt(worker):
    rows = drain(100)

    assert not TaskEvent.objects.exists()
    assert not TaskAttempt.objects.exists()
    assert set(rows.values_list("attempt", "sent_count", "lost_count")) == {(1, 0, 0)}
    # Promoted, claimed, finished: three updates; two where the last ones were written at once.
    assert set(rows.values_list("rev", flat=True)) <= {2, 3}


def test_nothing_is_left_in_the_broker(worker, broker):
    drain(60)

    with broker.client() as client:
        eventually(lambda: not client.hlen("unacked") and not client.llen("default"))
        names = {key.decode() for key in client.scan_iter()}
        assert not {key for key in names if key.startswith("celery-task-meta")}


def test_a_worker_does_not_grow_with_its_tasks(one_slot):
    (child,) = {task.pid for task in drain(50)}
    before = _files(one_slot, child)

    drain(150)

    # A thread may have its connection open just now: that passes, a leak does not.
    eventually(lambda: _files(one_slot, child) <= before + 2)


def _files(worker, child):
    import psutil

    return sum(psutil.Process(pid).num_fds() for pid in (worker.process.pid, child))


@pytest.mark.only_on("postgresql")
def test_a_database_that_drops_every_connection_loses_no_task(worker, record):
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0.3) for _ in range(20)]
    for _ in range(4):
        done = len(record.lines("ended"))
        eventually(lambda done=done: len(record.lines("ended")) > done)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    assert {now.status for now in all_ended(rows)} == {Status.FINISHED}
    assert set(record.starts().values()) == {1}


@pytest.mark.only_on("postgresql")
def test_a_database_that_crashes_and_returns_loses_no_task(
    start_worker, database_server, record
):
    start_worker()
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0.3) for _ in range(20)]
    eventually(lambda: len(record.lines("ended")) > 2)
    connection.close()

    database_server.kill()
    database_server.start()

    assert {now.status for now in all_ended(rows)} == {Status.FINISHED}
