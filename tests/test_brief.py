"""How long a process that sleeps keeps what it has locked: not for long, unless it is a body."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib import admin
from django.db import DatabaseError, OperationalError, connection, connections, transaction

import taskcontrol
from taskcontrol import (
    audit,
    brief as brief_room,
    broker,
    crashpoints,
    dispatch,
    draining,
    ends,
    fencing,
    lifecycle,
    lockwaits,
    pausing,
    resending,
    schedules,
    side,
)
from taskcontrol.brief import brief
from taskcontrol.context import running
from taskcontrol.currenttask import CurrentTask
from taskcontrol.dialect import free_keys
from taskcontrol.models import TaskBatch, TaskLog, TaskType
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago
from tests.models import Counter
from tests.waiting import eventually

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", side.ALIAS]),
    pytest.mark.only_on("postgresql"),
]


def sleep_over(monkeypatch, point, act):
    """Do ``act`` in a thread that stops at ``point`` until the test is over with it."""
    there, wake = threading.Event(), threading.Event()

    def reached(name):
        if name == point and threading.current_thread() is not threading.main_thread():
            there.set()
            wake.wait(60)

    monkeypatch.setattr(crashpoints, "reached", reached)

    def run():
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        sleeper = pool.submit(run)
        try:
            assert there.wait(30), sleeper.done() and sleeper.result()
            yield
        finally:
            wake.set()
        yield sleeper.result(30)


def is_free(task):
    with brief():
        return free_keys(TaskLog.objects.filter(pk=task.pk)) == [task.pk]


def finish_in_one_transaction(task):
    with fencing.in_one_transaction(task, ends.Outcome()):
        Counter.objects.create(name="c")


def finish_fenced(task):
    current = CurrentTask(task)
    fencing.fence(task, current, ends.Outcome(), lambda: None)
    with running(current), current.fenced():
        Counter.objects.create(name="c")


SLEEPERS = {
    "claim": (
        "moved.started",
        Status.QUEUED,
        lambda task: lifecycle.claim(task.pk, 1, worker_id=None, pid=1),
    ),
    "finish": ("moved.finished", Status.STARTED, lambda task: lifecycle.finish(task.pk, 1)),
    "fail": (
        "moved.failed",
        Status.STARTED,
        lambda task: lifecycle.fail(task.pk, 1, error="E: bad"),
    ),
    "atomic": ("atomic.ended", Status.STARTED, finish_in_one_transaction),
    "fenced": ("atomic.ended", Status.STARTED, finish_fenced),
    "cancel": ("moved.canceled", Status.STARTED, lifecycle.cancel),
    "retry": (
        "moved.pending",
        Status.FAILED,
        lambda task: lifecycle.retry_by_hand(task.pk, Status.FAILED),
    ),
    "resend": ("resend.taken", Status.QUEUED, lambda task: resending.resend_unclaimed()),
}


@pytest.mark.parametrize("name", SLEEPERS)
def test_who_sleeps_before_his_commit_loses_what_he_has_locked_p1(name, conf, monkeypatch):
    point, status, act = SLEEPERS[name]
    monkeypatch.setattr(broker, "publish", lambda messages: None)
    conf(WORKER_LOST_AFTER=2)
    make_type()
    make_worker()
    task = make_task(status, heard=True, sent_at=seconds_ago(3600), attempt=1)
    asleep = sleep_over(monkeypatch, point, lambda: act(task))
    next(asleep)

    eventually(lambda: is_free(task))

    # What a worker takes for a database that has restarted: it tries again.
    assert isinstance(next(asleep), OperationalError)
    assert TaskLog.objects.get(pk=task.pk).status == status
    assert not Counter.objects.exists()


def sleep_in(monkeypatch, room, name, act):
    """The same in front of a function of ``room``, where there is no point."""
    was = getattr(room, name)

    def here(*given, **options):
        crashpoints.reached(f"before {name}")
        return was(*given, **options)

    monkeypatch.setattr(room, name, here)
    return sleep_over(monkeypatch, f"before {name}", act)


def is_free_row(row):
    with brief():
        return free_keys(type(row).objects.filter(pk=row.pk)) == [row.pk]


BY_HAND = {
    "pause": (make_type, pausing.pause_all),
    "resume": (lambda: make_type(paused_at=seconds_ago(1)), pausing.resume_all),
    "drain": (make_worker, draining.drain_worker),
    "edit": (make_type, lambda kind: kind.save()),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_who_sleeps_over_what_he_does_by_hand_loses_the_row(name, conf, monkeypatch):
    conf(WORKER_LOST_AFTER=2)
    make, act = BY_HAND[name]
    row, user = make(), make_user(is_superuser=True)
    asleep = sleep_in(
        monkeypatch,
        audit,
        "_write",
        lambda: audit.perform(user, row, lambda: act(row) or "Done."),
    )
    next(asleep)

    eventually(lambda: is_free_row(row))

    assert isinstance(next(asleep), OperationalError)


def test_who_sleeps_over_a_pause_of_his_own_loses_the_row(conf, monkeypatch):
    conf(WORKER_LOST_AFTER=2)
    kind = make_type()
    asleep = sleep_in(
        monkeypatch, pausing, "_end_intervals", lambda: pausing.pause_all(kind)
    )
    next(asleep)

    eventually(lambda: is_free_row(kind))

    assert isinstance(next(asleep), OperationalError)


def test_who_sleeps_before_the_commit_of_a_bulk_loses_its_batch(conf, monkeypatch):
    """Others who add to the batch, and whoever ends or cancels it, would wait for him."""
    conf(WORKER_LOST_AFTER=2)
    batch = TaskBatch.objects.get(pk=taskcontrol.create_batch())
    asleep = sleep_over(
        monkeypatch,
        "bulk.whole",
        lambda: taskcontrol.bulk_enqueue([{}], batch.pk, method="tests.tasks.nothing"),
    )
    next(asleep)

    eventually(lambda: is_free_row(batch))

    assert isinstance(next(asleep), OperationalError)
    assert not TaskLog.objects.exists()


def test_who_sleeps_while_he_runs_a_schedule_by_hand_loses_it(conf, monkeypatch):
    conf(WORKER_LOST_AFTER=2)
    schedule = schedules.create("tests.tasks.nothing", every=60)
    asleep = sleep_over(monkeypatch, "enqueue.inserted", lambda: schedules.run(schedule))
    next(asleep)

    eventually(lambda: is_free_row(schedule))

    assert isinstance(next(asleep), OperationalError)
    assert not TaskLog.objects.exists()


def test_who_sleeps_over_a_form_of_admin_loses_the_row(monkeypatch, rf):
    seen = []
    monkeypatch.setattr(
        admin.ModelAdmin, "_changeform_view", lambda *given: seen.append(bound())
    )
    request = rf.post("/")
    request._dont_enforce_csrf_checks = True

    admin.site._registry[TaskType].changeform_view(request, "1")

    assert seen == ["10s"]


@pytest.mark.parametrize("swift", [True, False])
def test_a_wait_that_is_bounded_bounds_the_idleness_too(swift):
    """The first statement of a swift transaction that takes keys is this one."""
    with brief(swift=swift), lockwaits.at_most(1, "default"):
        assert bound() != "0"


def test_who_cannot_be_bounded_leaves_no_transaction_open(monkeypatch):
    monkeypatch.setattr(brief_room.IdleBound, "template", "no function()", raising=False)
    monkeypatch.setattr(brief_room.IdleBound, "__init__", lambda self, _ms: None)

    with pytest.raises(DatabaseError), brief():
        pass

    assert not connection.in_atomic_block
    Counter.objects.create(name="c")


def bound():
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return cursor.fetchone()[0]


def test_a_callers_own_transaction_may_last_as_long_as_it_likes(monkeypatch):
    monkeypatch.setattr(broker, "publish", lambda messages: None)
    task = make_task(Status.STARTED, heard=True)
    with transaction.atomic():
        taskcontrol.cancel(task)
        lifecycle.retry_by_hand(task.pk, Status.CANCELED)
        taskcontrol.enqueue(
            "tests.tasks.nothing", job_id="k", deduplicate=True, batch_id="b"
        )
        dispatch.dispatch_pending()
        assert bound() == "0"


@pytest.mark.parametrize("fence", ["atomic", "fenced", "held"])
def test_a_body_may_do_nothing_for_as_long_as_it_likes(fence, conf):
    conf(WORKER_LOST_AFTER=2)
    task = make_task(Status.STARTED, heard=True)
    current = CurrentTask(task)
    fencing.fence(task, current, ends.Outcome(), lambda: None)
    blocks = {
        "atomic": lambda: fencing.in_one_transaction(task, ends.Outcome()),
        "fenced": current.fenced,
        "held": current.held,
    }
    with running(current), blocks[fence]():
        taskcontrol.enqueue("tests.tasks.nothing", job_id="k", deduplicate=True)
        assert bound() == "0"
    assert TaskLog.objects.get(pk=task.pk).ended == (fence != "held")


def test_a_caller_may_make_his_tasks_as_slowly_as_he_likes():
    seen = []

    def slowly():
        for key in ("a", "b"):
            yield {"job_id": key, "deduplicate": True}
            seen.append(bound())

    taskcontrol.bulk_enqueue(slowly(), method="tests.tasks.nothing")

    assert seen == ["0", "0"]
