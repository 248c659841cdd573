"""The database restarts, cuts connections, finds deadlocks and runs full: nothing is lost."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import F

import taskcontrol
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import nasty, tasks
from tests.faults.figures import figure
from tests.faults.proxy import Proxy
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended
from tests.lab import LAB
from tests.models import Counter
from tests.recording import record as note
from tests.servers.users import give_to, server_user
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration


def once_each(record, rows, timeout):
    """All of ``rows`` finish, and each attempt of theirs ran once; return the rows."""
    ended = all_ended(rows, timeout)
    assert {now.status for now in ended} == {Status.FINISHED}
    assert set(record.starts().values()) == {1}
    return ended


def ask(sql, *params):
    """Return what the database answers."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def durable(workshop):
    """A crash of the server loses nothing that it has promised, as on a site."""
    ask("ALTER ROLE CURRENT_USER SET synchronous_commit = on")
    yield
    ask("ALTER ROLE CURRENT_USER RESET synchronous_commit")


def test_bodies_and_ends_outlive_a_restart_of_the_database(
    worker, durable, database_server, record
):
    for number in range(sized(2, 20)):
        # Some are in their body, some in their end, and some are on their way.
        rows = [taskcontrol.enqueue(tasks.recorded, seconds=n / 4) for n in range(8)]
        eventually(lambda: record.lines("started"))
        connections.close_all()

        # In order first: who connects again keeps its promises.
        database_server.kill() if number % 2 else database_server.stop()
        database_server.start()

        ended = once_each(record, rows, 15)
        assert sum(now.lost_count for now in ended) == 0
        record.clear()
    figure("database restarts", restarts=sized(2, 20), tasks=8 * sized(2, 20), lost=0)


def others():
    """Return the processes of the server that serve workers."""
    sql = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return [pid for (pid,) in ask(sql)]


def test_connections_that_are_cut_in_the_middle_lose_nothing(worker, record):
    dice, cuts = random.Random(SEED), 0
    rows = [
        taskcontrol.enqueue(tasks.recorded, seconds=0.05) for _ in range(sized(20, 400))
    ]
    while not all(one.ended for one in TaskLog.objects.filter(pk__in=[r.pk for r in rows])):
        if cuts < sized(10, 200):
            for pid in dice.sample(there := others(), min(2, len(there))):
                ask("SELECT pg_terminate_backend(%s)", pid)
                cuts += 1
        always(lambda: True, dice.random() / 4)

    ended = once_each(record, rows, 30)
    figure("connections cut", cuts=cuts, tasks=len(ended), lost=0)


# A COMMIT of which nobody knows whether it was made -------------------------------------


@contextmanager
def through(proxy) -> Iterator[None]:
    """Let this process speak to the database through ``proxy``."""
    where = connections["default"].settings_dict
    before = where["HOST"]
    connections.close_all()
    where["HOST"] = str(proxy.path.parent)
    try:
        yield
    finally:
        where["HOST"] = before
        connections.close_all()


def test_a_commit_whose_answer_is_lost_makes_no_second_task(workshop, database_server):
    workshop.close()
    name = f".s.PGSQL.{database_server.port}"
    proxy = Proxy(LAB / "proxy" / name, Path(database_server.host) / name).start()
    dice, errors, kept = random.Random(SEED), 0, 0
    count = sized(40, 600)
    try:
        with through(proxy):
            for number in range(count):
                key = f"order-{number:04}"
                # Around the end of what a call says and hears, where the COMMIT is.
                proxy.cut_after(
                    bytes_of_a_call(proxy, f"{key}-before") - dice.randrange(120)
                )
                try:
                    enqueue_once(key)
                except DatabaseError:
                    errors += 1
                    connection.close()
                    proxy.heal()
                    kept += stored(key)
                    # What a caller does who does not know: the same again, by the same key.
                    enqueue_once(key)
                connection.close()  # the cut may have come just behind the answer
                proxy.heal()
                assert stored(key) == 1, (number, errors)
    finally:
        proxy.stop()

    assert 0 < kept < errors < count, "the cuts did not fall around the COMMIT"
    figure("ambiguous commits", enqueues=count, errors=errors, committed=kept, twice=0)


def bytes_of_a_call(proxy, key):
    """Return how many bytes go through ``proxy`` for one call."""
    many = 10**9
    enqueue_once(f"{key}-1")
    proxy.cut_after(many)
    enqueue_once(f"{key}-2")
    return many - proxy._bytes_left


def enqueue_once(key):
    return taskcontrol.enqueue(tasks.nothing, job_id=key, on_duplicate="return")


def stored(key):
    return TaskLog.objects.filter(job_id=key).count()


# Deadlocks -------------------------------------------------------------------------------


def test_a_deadlock_with_a_transaction_of_the_user_loses_nothing(worker, record):
    count = sized(2, 20)
    for number in range(count):
        record.clear()
        counter = Counter.objects.create(name=f"of {number}")
        other = taskcontrol.enqueue(tasks.nothing, paused=True)
        body = taskcontrol.enqueue(
            nasty.write_and_cancel, counter=counter.pk, other=other.pk, atomic=True
        )
        eventually(lambda: record.lines("has the counter"))

        # The body has the counter and waits for the task; here it is the other way around.
        with suppress(DatabaseError), transaction.atomic():
            taskcontrol.cancel(other)
            note("has the task")
            Counter.objects.filter(pk=counter.pk).update(value=F("value") + 10)

        (now,) = all_ended([body], 30)
        assert (now.status, now.attempt, now.lost_count) == (Status.FINISHED, 1, 0)
        other.refresh_from_db()
        counter.refresh_from_db()
        assert other.status == Status.CANCELED
        assert counter.value in {1, 11}
    figure("deadlocks", deadlocks=count, lost=0)


# A full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(workshop):
    """The tasks lie on a disk of their own, of 16 MB; return its directory."""
    if server_user() == "":
        pytest.skip("needs root: a small disk is mounted")
    place = LAB / "small disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    (place / "tables").mkdir()
    give_to(server_user(), place)
    give_to(server_user(), place / "tables")
    names = [name for name in connection.introspection.table_names() if "tasklog" in name]
    try:
        ask(f"CREATE TABLESPACE small LOCATION '{place / 'tables'}'")
        for name in names:
            ask(f"ALTER TABLE {name} SET TABLESPACE small")
        yield place
    finally:
        (place / "ballast").unlink(missing_ok=True)
        for name in names:
            ask(f"ALTER TABLE {name} SET TABLESPACE pg_default")
        ask("DROP TABLESPACE small")
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_refuses_in_words_and_loses_nothing(worker, small_disk, record):
    before = [taskcontrol.enqueue(tasks.recorded, paused=True) for _ in range(5)]
    fill(small_disk / "ballast")

    made, refusals = [], []
    for _ in range(2000):
        try:
            made.append(taskcontrol.enqueue(tasks.recorded, paused=True, tag="x" * 10_000))
        except DatabaseError as refusal:
            refusals.append(refusal)
            if len(refusals) == 20:
                break
    with pytest.raises(DatabaseError):
        taskcontrol.bulk_enqueue([{"method": tasks.recorded, "tag": "x" * 10_000}] * 500)

    assert len(refusals) == 20
    assert {"No space left on device" in str(one) for one in refusals} == {True}
    assert TaskLog.objects.count() == len(before) + len(made)
    (small_disk / "ballast").unlink()
    after = [taskcontrol.enqueue(tasks.recorded) for _ in range(5)]
    for row in [*before, *made]:
        taskcontrol.resume(row)
    ended = once_each(record, [*before, *made, *after], 60)
    figure("full disk", tasks=len(ended), refused=len(refusals) + 1, lost=0)


def fill(path):
    """Write until there is no room."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            continue
