"""Where a wait went: what a pass writes of it, and what is read from that."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import taskcontrol
from taskcontrol import closures
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.models import (
    DispatcherState,
    QueueState,
    TaskAttempt,
    TaskEvent,
    TaskLog,
    WaitInterval,
    Worker,
)
from taskcontrol.pausing import pause_all, resume_all
from taskcontrol.pruning import prune_ended_tasks
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from taskcontrol.waits import where_it_went
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago
from tests.test_lifecycle import statements

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.databases,
    pytest.mark.usefixtures("broker"),
]


def closed() -> set[str]:
    """Return what the dispatcher's row says is closed."""
    return set(DispatcherState.objects.get().closed)


def long_closed(*names: str, seconds: float = 60) -> None:
    """Write that these were closed so long ago."""
    dispatcher_state()
    then = int(seconds_ago(seconds).timestamp() * 1_000_000)
    DispatcherState.objects.update(closed=dict.fromkeys(names, then))


def interval(
    scope: str, key: str = "", begin: float = 60, end: float | None = 10, **columns
):
    """Store an interval, its times in seconds ago."""
    return WaitInterval.objects.create(
        scope=scope,
        key=key,
        from_at=seconds_ago(begin),
        to_at=None if end is None else seconds_ago(end),
        **columns,
    )


def waiting_task(**columns) -> TaskLog:
    """Return a task that was made 100 s ago and started 10 s ago."""
    return make_task(
        Status.STARTED,
        **{
            "created_at": seconds_ago(100),
            "queued_at": seconds_ago(10),
            "started_at": seconds_ago(10),
            **columns,
        },
    )


def parts(task) -> dict[str, int]:
    return {one.code: round(one.seconds) for one in where_it_went(task, timezone.now())}


def texts(task) -> list[str]:
    return [one.text for one in where_it_went(task, timezone.now())]


# What a pass finds closed


def test_a_type_at_its_limit_with_more_to_do_is_closed_until_a_place_is_free():
    make_worker(pool_size=5)
    make_type(concurrency_limit=1)
    first, _second = make_task(), make_task()

    dispatch_pending()
    assert closed() == {"limit:tests.tasks.nothing"}

    long_closed("limit:tests.tasks.nothing")
    taskcontrol.cancel(first)
    dispatch_pending()
    assert closed() == set()
    row = WaitInterval.objects.get()
    assert (row.scope, row.key) == ("limit", "tests.tasks.nothing")
    assert 59 < (row.to_at - row.from_at).total_seconds() < 70


def test_a_type_that_is_just_full_closes_nothing():
    make_worker(pool_size=5)
    make_type(concurrency_limit=2)
    make_task()
    make_task()

    dispatch_pending()

    assert closed() == set()


def test_full_slots_with_more_to_do_are_closed_and_what_was_short_is_not_kept(monkeypatch):
    monkeypatch.setattr(closures, "LEAST", 600_000_000)  # on any machine this is short
    make_worker(pool_size=1)
    make_type()
    first, second = make_task(), make_task()
    dispatch_pending()
    assert closed() == {"pool:"}
    dispatch_pending()
    assert closed() == {"pool:"}

    taskcontrol.cancel(first)
    taskcontrol.cancel(second)
    dispatch_pending()

    assert closed() == set()
    assert not WaitInterval.objects.exists()


def test_only_the_queue_without_a_free_slot_is_closed():
    make_worker(["short"], 1)
    make_worker(["long"], 5)
    make_type()
    for queue in ("short", "short", "long"):
        make_task(queue=queue)
    dispatch_pending()
    assert closed() == {"pool:"}  # of all that still waits

    make_type("tests.tasks.add", concurrency_limit=1)
    make_task(queue="long", method="tests.tasks.add")
    make_task(queue="long", method="tests.tasks.add")
    dispatch_pending()
    assert closed() == {"pool:", "limit:tests.tasks.add"}


def test_a_queue_that_no_worker_takes_from_is_closed():
    make_worker(["short"])
    make_task(queue="long")

    dispatch_pending()

    assert closed() == {"worker:long"}


def test_without_any_worker_everything_is_closed_until_one_comes():
    make_task()
    dispatch_pending()
    assert closed() == {"worker:"}

    long_closed("worker:")
    make_worker()
    dispatch_pending()

    assert closed() == set()
    assert WaitInterval.objects.get().scope == "worker"


def test_full_slots_leave_what_is_known_of_limits():
    worker = make_worker(pool_size=1)
    make_type(concurrency_limit=1)
    make_task(Status.STARTED, worker=worker)
    make_task()
    long_closed("limit:tests.tasks.nothing", "worker:long", "worker:")

    dispatch_pending()

    assert closed() == {"pool:", "limit:tests.tasks.nothing", "worker:long"}


def test_a_paused_type_is_not_called_full():
    make_worker()
    make_task()
    kind = make_type()
    pause_all(kind)

    dispatch_pending()

    assert closed() == set()


def test_a_suspended_dispatcher_looks_at_nothing_and_leaves_all_as_it_was():
    make_task()
    long_closed("pool:")
    taskcontrol.toggle_dispatcher(enable=False)

    dispatch_pending()

    assert closed() == {"pool:"}


def test_a_broker_that_is_away_closes_everything(broker):
    make_worker()
    make_task()
    dispatcher_state()
    DispatcherState.objects.update(broker_error="refused")
    broker.stop()
    with pytest.raises(taskcontrol.exceptions.BrokerUnavailable):
        dispatch_pending()
    assert closed() == {"broker:"}


def test_a_pass_that_finds_the_same_closed_again_writes_nothing_more():
    worker = make_worker(pool_size=1)
    make_task(Status.STARTED, worker=worker)
    make_task()
    dispatch_pending()

    with CaptureQueriesContext(connection) as queries:
        dispatch_pending()

    written = [sql for sql in statements(queries) if not sql.startswith("SELECT")]
    assert all("last_pass_at" in sql and '"closed"' not in sql for sql in written)
    assert not any("INSERT" in sql for sql in written)


# What is read


def test_a_wait_without_a_reason_was_spent_in_line():
    assert parts(waiting_task()) == {"line": 90}


def test_the_parts_of_a_wait_add_up_and_the_longest_comes_first():
    task = waiting_task()
    interval("limit", task.method, 90, 50)
    interval("pool", "", 50, 20)
    interval("pool", "another queue", 100, 10)
    interval("limit", "another.type", 100, 10)

    assert parts(task) == {"limit": 40, "pool": 30, "line": 20}
    assert texts(task) == ["limit of its type", "no free slot", "in line"]


def test_of_two_reasons_at_once_the_one_that_a_person_made_counts():
    ann = make_user("ann")
    task = waiting_task()
    interval("pool", "default", 100, 10)
    interval("type", task.method, 60, 40, actor=ann, reason="month end")
    interval("dispatcher", "", 50, 30)

    assert parts(task) == {"pool": 60, "dispatcher": 20, "type": 10}
    assert "type paused by ann (month end)" in texts(task)
    assert "dispatcher suspended by the system" in texts(task)


def test_an_interval_is_cut_to_the_wait():
    task = waiting_task()
    interval("queue", "default", 1000, 90)
    interval("queue", "default", 20, 1)
    interval("queue", "default", 900, 800)

    assert parts(task) == {"line": 70, "queue": 20}


def test_what_still_holds_a_task_back_counts_until_now():
    task = make_task(created_at=seconds_ago(100))
    interval("dispatcher", "", 30, None)
    long_closed("limit:tests.tasks.nothing", "limit:another", seconds=50)

    assert parts(task) == {"line": 50, "dispatcher": 30, "limit": 20}


def test_the_time_before_run_at_and_in_the_broker_is_told_apart():
    task = waiting_task(run_at=seconds_ago(40), queued_at=seconds_ago(15))

    assert parts(task) == {"not_before": 60, "line": 25, "sent": 5}


def test_the_pauses_of_the_task_itself_are_told_with_who_and_why():
    task = waiting_task()
    ann = make_user("ann")
    for kind, ago in (("paused", 80), ("resumed", 50), ("paused", 30), ("resumed", 20)):
        event = TaskEvent.objects.create(task=task, kind=kind, actor=ann, detail="wait")
        TaskEvent.objects.filter(pk=event.pk).update(at=seconds_ago(ago))

    assert parts(task) == {"line": 50, "paused": 40}
    assert "paused by ann (wait)" in texts(task)


def test_a_task_enqueued_as_paused_waited_for_its_resume():
    task = waiting_task()
    event = TaskEvent.objects.create(task=task, kind="resumed")
    TaskEvent.objects.filter(pk=event.pk).update(at=seconds_ago(70))

    assert parts(task) == {"line": 60, "paused": 30}


def test_the_wait_of_a_later_attempt_began_with_the_end_of_the_one_before():
    task = waiting_task(attempt=2)
    TaskAttempt.objects.create(
        task=task, attempt=1, status="Failed", ended_at=seconds_ago(30)
    )

    assert parts(task) == {"line": 20}
    assert texts(task) == ["the pause before the retry, and in line"]


def test_a_task_that_never_waited_has_nothing_to_tell():
    task = make_task(Status.STARTED, created_at=seconds_ago(1), started_at=seconds_ago(2))

    assert where_it_went(task, timezone.now()) == []


def test_reading_costs_the_same_however_much_is_stored():
    task = waiting_task()

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            where_it_went(task, timezone.now())
        return len(queries)

    one = cost()
    for number in range(50):
        interval("pool", "", 90 - number, 89.5 - number)
    assert cost() == one <= 4


@pytest.mark.only_on("postgresql")
def test_what_came_after_the_wait_is_not_read():
    task = waiting_task()
    now = timezone.now()
    WaitInterval.objects.bulk_create(
        WaitInterval(
            scope="pool",
            from_at=now + timedelta(minutes=n),
            to_at=now + timedelta(minutes=n, seconds=30),
        )
        for n in range(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE taskcontrol_waitinterval")
    with CaptureQueriesContext(connection) as queries:
        where_it_went(task, now)
    (sql,) = [one["sql"] for one in queries if "waitinterval" in one["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert "Seq Scan on taskcontrol_waitinterval" not in plan


def test_a_real_pause_is_told_after_the_end():
    make_worker()
    queue = QueueState.objects.create(name="default")
    task = make_task(created_at=seconds_ago(100))
    ann = make_user("ann", "control_queue")
    pause_all(queue, user=ann, reason="deploy")
    WaitInterval.objects.update(from_at=seconds_ago(60))
    resume_all(queue)
    dispatch_pending()

    assert "queue paused by ann (deploy)" in texts(TaskLog.objects.get(pk=task.pk))
    assert parts(task)["queue"] == 60


def test_old_intervals_are_pruned():
    old = interval("pool", "", 40 * 86400, 39 * 86400)
    kept = interval("pool", "", 20 * 86400, 19 * 86400)
    still = interval("dispatcher", "", 90 * 86400, None)

    prune_ended_tasks()

    assert set(WaitInterval.objects.values_list("pk", flat=True)) == {kept.pk, still.pk}
    assert old.pk not in {kept.pk, still.pk}


def test_names_of_closures_keep_every_key():
    assert closures.parts_of(closures.named(closures.Scope.LIMIT, "a:b.c")) == (
        "limit",
        "a:b.c",
    )


def test_a_worker_that_leaves_closes_its_queue():
    worker = make_worker()
    make_task()
    Worker.objects.filter(pk=worker.pk).update(left_at=timezone.now())

    dispatch_pending()

    assert closed() == {"worker:"}
