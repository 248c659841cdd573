"""What a worker that is gone held runs again, or fails, and its places are free."""

from __future__ import annotations

from datetime import timedelta

import pytest
import time_machine
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from taskcontrol import lifecycle, rescue
from taskcontrol.conf import conf
from taskcontrol.exceptions import OutOfMemory, WorkerLeft
from taskcontrol.losses import lose
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog, Worker
from taskcontrol.rescue import rescue_lost_tasks
from taskcontrol.status import Status
from taskcontrol.tolderrors import error_of
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.test_lifecycle import statements
from tests.waiting import beside, race, race_over

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def silent(**columns):
    return make_worker(last_seen_at=seconds_ago(60), **columns)


def row(task):
    return TaskLog.objects.get(pk=task.pk)


def test_a_silent_worker_is_declared_lost_and_its_task_runs_again_p1(caplog):
    worker = silent(hostname="w@host")
    task = make_task(Status.STARTED, worker=worker)

    assert rescue_lost_tasks() == 1

    after = row(task)
    assert (after.status, after.occupies, after.lost_count, after.attempt) == (
        Status.PENDING,
        False,
        1,
        1,
    )
    assert after.ready_lane == task.lane
    assert Worker.objects.get().lost_at is not None
    assert TaskAttempt.objects.get().ended_reason == "its process was lost (worker w@host)"
    assert TaskEvent.objects.get().kind == TaskEvent.Kind.RESCUED
    assert "w@host gave no sign of life" in caplog.text
    assert rescue_lost_tasks() == 0


@pytest.mark.parametrize("age", [0, 5, 15])
def test_while_a_worker_gives_signs_of_life_nothing_is_rescued(age):
    make_task(Status.STARTED, worker=make_worker(last_seen_at=seconds_ago(age)))

    assert rescue_lost_tasks() == 0
    assert Worker.objects.get().lost_at is None


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_sweeper_with_a_wrong_clock_declares_nobody_lost(hours):
    make_task(Status.STARTED, worker=make_worker())

    with time_machine.travel(timezone.now() + timedelta(hours=hours)):
        assert rescue_lost_tasks() == 0


def test_a_worker_that_left_in_order_gives_its_tasks_back_uncounted():
    gone = {"leaving_at": seconds_ago(9), "left_at": seconds_ago(5)}
    task = make_task(Status.STARTED, worker=make_worker(**gone))

    assert rescue_lost_tasks() == 1

    after = row(task)
    assert (after.status, after.lost_count) == (Status.PENDING, 0)
    assert TaskEvent.objects.get().kind == TaskEvent.Kind.RETURNED


def test_a_worker_that_was_killed_while_it_left_has_lost_its_tasks_p1():
    killed = make_worker(leaving_at=seconds_ago(40), last_seen_at=seconds_ago(60))
    counted = make_task(Status.STARTED, worker=killed)
    once = make_task(Status.STARTED, worker=killed, options={"on_lost": "fail"})

    assert rescue_lost_tasks() == 2

    assert (row(counted).status, row(counted).lost_count) == (Status.PENDING, 1)
    assert row(once).status == Status.FAILED


def test_a_worker_that_left_in_order_is_never_called_lost():
    make_worker(left_at=seconds_ago(50), last_seen_at=seconds_ago(60))

    rescue_lost_tasks()

    assert Worker.objects.get().lost_at is None


def test_a_worker_is_declared_lost_once():
    silent()
    rescue_lost_tasks()
    first = Worker.objects.get().lost_at

    rescue_lost_tasks()

    assert Worker.objects.get().lost_at == first


def test_a_task_that_was_lost_too_often_fails_p1(conf):
    task = make_task(Status.STARTED, worker=silent(), lost_count=3, max_retries=5)

    assert rescue_lost_tasks() == 1

    after = row(task)
    assert (after.status, after.lost_count, after.retry_at) == (Status.FAILED, 4, None)
    assert after.ended
    assert "4 times by now" in after.error_message
    assert after.ended_reason == "its process was lost"


@pytest.mark.parametrize("times", [1, 2])
def test_a_process_that_the_kernel_killed_for_its_memory_is_told_in_its_own_words(
    conf, times
):
    conf(LOST_LIMIT=1)
    task = make_task(Status.STARTED, worker=silent(), lost_count=times - 1)

    assert lose(task, "w@host: signal 9 (SIGKILL)", for_memory=True)

    after = row(task)
    assert after.lost_count == times
    if times == 1:
        assert after.status == Status.PENDING
        (event,) = TaskEvent.objects.all()
        assert event.detail.startswith(
            "out of memory: the kernel killed its process (w@host"
        )
    else:
        assert (after.status, after.retry_at) == (Status.FAILED, None)
        assert after.ended_reason == "out of memory: the kernel killed its process"
        assert after.error_message.startswith("OutOfMemory: The kernel killed the process")
        assert error_of(after.error_message).kind is OutOfMemory


def test_the_number_of_losses_can_be_set(conf):
    conf(LOST_LIMIT=0)
    task = make_task(Status.STARTED, worker=silent())

    rescue_lost_tasks()

    assert row(task).status == Status.FAILED


@pytest.mark.parametrize("said_by", ["type", "task"])
def test_what_must_not_run_twice_fails_when_it_is_lost(said_by):
    if said_by == "type":
        make_type(on_lost="fail")
    options = {"on_lost": "fail"} if said_by == "task" else {}
    task = make_task(Status.STARTED, worker=silent(), options=options)

    rescue_lost_tasks()

    assert row(task).status == Status.FAILED


def test_what_must_not_run_twice_fails_when_its_worker_leaves():
    make_type(on_lost="fail")
    task = make_task(Status.STARTED, worker=make_worker(left_at=seconds_ago(5)))

    assert rescue_lost_tasks() == 1

    after = row(task)
    assert (after.status, after.ended_reason, after.lost_count, after.retry_at) == (
        Status.FAILED,
        "its worker left",
        0,
        None,
    )
    assert error_of(after.error_message).kind is WorkerLeft


def test_the_tasks_own_word_beats_its_types():
    make_type(on_lost="fail")
    task = make_task(Status.STARTED, worker=silent(), options={"on_lost": "rerun"})

    rescue_lost_tasks()

    assert row(task).status == Status.PENDING


@pytest.mark.parametrize("status", [Status.CANCELED, Status.FAILED, Status.PENDING])
def test_a_body_that_was_told_to_stop_is_gone_with_its_worker_p4(status):
    task = make_task(status, worker=silent(), occupies=True)

    assert rescue_lost_tasks() == 1

    after = row(task)
    assert (after.status, after.occupies) == (status, False)
    assert after.ready_lane == (task.lane if status is Status.PENDING else None)


def test_what_waits_in_the_broker_belongs_to_no_worker():
    silent()
    make_task(Status.QUEUED)

    assert rescue_lost_tasks() == 0


def test_a_task_whose_worker_was_deleted_is_rescued_p1():
    worker = make_worker()
    task = make_task(Status.STARTED, worker=worker)
    Worker.objects.all().delete()

    assert rescue_lost_tasks() == 1
    assert row(task).status == Status.PENDING


def test_a_body_that_belongs_to_no_worker_is_left_alone():
    """Somebody runs it by hand, in a shell or a test."""
    make_task(Status.STARTED)

    assert rescue_lost_tasks() == 0


@pytest.mark.parametrize(("ago", "freed"), [(200, False), (9999, True)])
def test_a_place_of_a_process_that_is_gone_is_free_after_cancel_and_retry_too_p1(
    ago, freed
):
    """It ran at once (now=True); the retry has cleared when it began."""
    task = make_task(Status.STARTED, started_at=seconds_ago(ago), timeout=200)
    lifecycle.cancel(task)
    assert lifecycle.retry_by_hand(task.pk, Status.CANCELED)
    assert (row(task).started_at, row(task).occupies) == (None, True)

    assert rescue_lost_tasks() == freed

    after = row(task)
    assert (after.status, after.occupies) == (Status.PENDING, not freed)
    assert (after.ready_lane is not None) == freed


def test_a_poisoned_row_does_not_stop_the_others(caplog):
    worker = silent()
    bad = make_task(Status.STARTED, worker=worker)
    TaskAttempt.objects.create(task=bad, attempt=1, status="Failed")
    good = make_task(Status.STARTED, worker=worker)

    assert rescue_lost_tasks() == 1

    assert (row(bad).status, row(good).status) == (Status.STARTED, Status.PENDING)
    assert f"Task {bad.pk} could not be rescued" in caplog.text


def test_a_page_of_poisoned_rows_does_not_stop_the_others_for_ever(conf):
    conf(SWEEP_PAGE=2)
    worker = silent()
    for _ in range(2):
        bad = make_task(Status.STARTED, worker=worker)
        TaskAttempt.objects.create(task=bad, attempt=1, status="Failed")
    good = make_task(Status.STARTED, worker=worker)

    rescue_lost_tasks()

    assert row(good).status == Status.PENDING


def test_what_ran_at_once_in_a_process_that_is_gone_is_read_page_by_page(conf):
    conf(SWEEP_PAGE=2)
    rows = [make_task(Status.STARTED, started_at=seconds_ago(9999)) for _ in range(5)]

    with CaptureQueriesContext(connection) as queries:
        assert rescue_lost_tasks() == len(rows)

    pages = [
        one for one in statements(queries) if "worker_id` IS NULL" in one.replace('"', "`")
    ]
    assert len(pages) == 4
    assert all("LIMIT 2" in one for one in pages)
    assert {one.status for one in TaskLog.objects.all()} == {Status.FAILED}


def test_a_loss_that_came_too_late_moves_nothing_p3():
    task = make_task(Status.STARTED)
    lifecycle.finish(task.pk, 1)

    assert lose(task, "worker w") is False
    assert row(task).status == Status.FINISHED


@pytest.mark.django_db(transaction=True)
def test_a_rescue_never_takes_what_has_just_finished_p3():
    worker = silent()
    tasks = [make_task(Status.STARTED, worker=worker) for _ in range(100)]
    loaded = [TaskLog.objects.select_related("worker").get(pk=task.pk) for task in tasks]

    answers = race_over(
        loaded,
        lambda task: lose(task, "worker w"),
        lambda task: lifecycle.finish(task.pk, 1),
    )

    for task, (lost, finished) in zip(tasks, answers, strict=True):
        assert (lost, finished) in {(True, False), (False, True)}
        assert row(task).status == (Status.PENDING if lost else Status.FINISHED)


@pytest.mark.django_db(transaction=True)
def test_sweeps_at_once_count_each_loss_once():
    worker = silent()
    tasks = [make_task(Status.STARTED, worker=worker) for _ in range(20)]

    answers = race(*[rescue_lost_tasks] * 4)

    assert sum(answers) + rescue_lost_tasks() == len(tasks)
    assert set(TaskLog.objects.values_list("status", "lost_count")) == {("Pending", 1)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_sweep_in_another_thread_keeps_no_worker_from_being_declared_lost(monkeypatch):
    task = make_task(Status.STARTED, worker=silent())
    locking = rescue.free_keys

    def beside_another_sweep(rows):
        monkeypatch.setattr(rescue, "free_keys", locking)
        keys = locking(rows)
        assert beside(rescue_lost_tasks) == 0
        return keys

    monkeypatch.setattr(rescue, "free_keys", beside_another_sweep)

    assert rescue_lost_tasks() == 1
    assert row(task).status == Status.PENDING


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("status", [Status.STARTED, Status.CANCELED])
def test_a_row_that_somebody_holds_does_not_stop_the_sweep(status):
    worker = silent()
    held = make_task(status, worker=worker, occupies=True)
    free = make_task(Status.STARTED, worker=worker)

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=held.pk)
        answer = beside(rescue_lost_tasks)

    assert answer == 1
    assert row(free).status == Status.PENDING
    assert rescue_lost_tasks() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_worker_whose_row_is_held_has_the_time_of_two_signs_after_that_p1(monkeypatch):
    monkeypatch.setattr(rescue, "_held_at", {})
    held, other = silent(hostname="held"), silent(hostname="other")

    with transaction.atomic():
        assert Worker.objects.select_for_update().get(pk=held.pk)
        beside(rescue_lost_tasks)
    assert list(Worker.objects.exclude(lost_at=None)) == [other]
    rescue_lost_tasks()
    assert list(Worker.objects.exclude(lost_at=None)) == [other]

    rescue._held_at[held.pk] -= 3 * conf.HEARTBEAT_INTERVAL
    rescue_lost_tasks()
    assert Worker.objects.exclude(lost_at=None).count() == 2
