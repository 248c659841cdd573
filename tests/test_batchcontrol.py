"""Canceling, pausing, resuming and retrying whole batches: what moves, who may, who races."""

from __future__ import annotations

import itertools

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import batches, lifecycle
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.events import task_status_changed
from taskcontrol.exceptions import BatchClosed, BatchNotFound, NotPermitted
from taskcontrol.models import TaskBatch, TaskEvent, TaskLog
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.settling import settle_batches
from taskcontrol.status import Status
from tests import tasks
from tests.factories import (
    make_batch,
    make_task,
    make_type,
    make_user,
    make_worker,
    seconds_ago,
)
from tests.test_lifecycle import statements
from tests.waiting import race_over

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

Kind = TaskEvent.Kind
#: What is done to a batch, and with which permission.
ACTS = {
    "cancel": (taskcontrol.cancel_batch, "cancel_tasklog"),
    "pause": (taskcontrol.pause_batch, "prioritize_tasklog"),
    "resume": (taskcontrol.resume_batch, "prioritize_tasklog"),
    "retry": (taskcontrol.retry_batch, "retry_tasklog"),
}
#: How a task comes into a batch.
JOIN = {
    "enqueue": lambda key: taskcontrol.enqueue(tasks.nothing, batch_id=key),
    "bulk_enqueue": lambda key: taskcontrol.bulk_enqueue(
        [{"method": tasks.nothing}] * 3, batch_id=key
    ),
}
#: The name of the member whose automatic retry is due later.
RETRYING = "retrying"


def member(status=Status.PENDING, batch_id="b", **columns):
    return make_task(status, batch_id=batch_id, **columns)


@pytest.fixture
def everything():
    """A batch with a task of each status, and one whose retry is due later."""
    make_batch(total=8)
    rows = {str(status): member(status) for status in Status}
    later = {"retry_at": seconds_ago(-60), "max_retries": 1}
    rows[RETRYING] = member(Status.FAILED, **later)
    make_task(batch_id="other")
    make_task()
    return rows


def moved(rows) -> dict[str, str]:
    """Return where the members stand that are not where they began."""
    now = {
        key: TaskLog.objects.values_list("status", flat=True).get(pk=row.pk)
        for key, row in rows.items()
    }
    return {key: status for key, status in now.items() if status != rows[key].status}


def others_stay() -> bool:
    outside = TaskLog.objects.exclude(batch_id="b")
    return set(outside.values_list("status", flat=True)) <= {Status.PENDING}


# Cancel


def test_canceling_a_batch_stops_all_that_has_not_ended(everything):
    user = make_user("ann", "cancel_tasklog")

    assert taskcontrol.cancel_batch("b", "wrong list", user=user) == 5

    unended = [Status.PENDING, Status.PAUSED, Status.QUEUED, Status.STARTED, RETRYING]
    assert moved(everything) == dict.fromkeys(map(str, unended), Status.CANCELED)
    running = TaskLog.objects.get(pk=everything["Started"].pk)
    assert running.cancel_requested_at is not None
    assert (running.canceled_by, running.ended_reason) == (user, "wrong list")
    events = TaskEvent.objects.filter(kind=Kind.CANCELED, actor=user, detail="wrong list")
    assert events.count() == 5
    assert others_stay()


@pytest.mark.parametrize("how", JOIN)
def test_a_canceled_batch_takes_no_more_tasks(everything, how):
    taskcontrol.cancel_batch("b")
    before = TaskLog.objects.count()

    why = r"Batch 'b' takes no more tasks: it was canceled; retry_batch\('b'\) opens it"
    with pytest.raises(BatchClosed, match=why):
        JOIN[how]("b")

    # The caller's transaction is not broken by the refusal.
    assert TaskLog.objects.count() == before
    assert TaskBatch.objects.get(pk="b").total == 8


def test_a_batch_that_was_canceled_before_its_first_task_takes_none():
    taskcontrol.create_batch("b")
    assert taskcontrol.cancel_batch("b") == 0

    with pytest.raises(BatchClosed):
        taskcontrol.bulk_enqueue([{"method": tasks.nothing}], batch_id="b")


def test_a_canceled_batch_ends_as_not_all_well(everything):
    on_failure = {
        "columns": {"method": "tests.tasks.nothing", "lane": 1, "event": "called"}
    }
    TaskBatch.objects.filter(pk="b").update(callbacks={"failure": on_failure})

    taskcontrol.cancel_batch("b")

    assert settle_batches() == 1
    assert TaskLog.objects.filter(event="called").count() == 1


def test_a_second_cancel_finds_nothing_left(everything):
    taskcontrol.cancel_batch("b")
    at = TaskBatch.objects.get(pk="b").canceled_at

    assert taskcontrol.cancel_batch("b") == 0
    assert TaskBatch.objects.get(pk="b").canceled_at == at


# Pause and resume


def test_pausing_a_batch_holds_back_what_waits_and_takes_back_what_was_sent(everything):
    user = make_user("ann", "prioritize_tasklog")

    assert taskcontrol.pause_batch("b", "month end", user=user) == 2

    assert moved(everything) == {"Pending": Status.PAUSED, "Queued": Status.PAUSED}
    row = TaskBatch.objects.get(pk="b")
    assert (row.paused_by, row.paused_reason) == (user, "month end")
    events = TaskEvent.objects.filter(kind=Kind.PAUSED)
    assert set(events.values_list("actor", "detail")) == {
        (user.pk, "its batch is paused (month end)")
    }
    assert others_stay()


def test_a_pause_counts_what_the_sweep_paused_meanwhile_too(everything, conf):
    conf(SWEEP_PAGE=1)
    user = make_user("ann", "prioritize_tasklog")
    seen = itertools.count(1)

    def sweep(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if sql.startswith("UPDATE") and "taskbatch" in sql and next(seen) == 1:
            conf(SWEEP_PAGE=500)
            settle_batches()
        return answer

    with connection.execute_wrapper(sweep):
        assert taskcontrol.pause_batch("b", user=user) == 2

    actors = TaskEvent.objects.filter(kind=Kind.PAUSED).values_list("actor", flat=True)
    assert set(actors) == {None}


def test_what_is_added_or_retried_in_a_paused_batch_waits_too(everything, broker):
    make_worker(pool_size=20)
    taskcontrol.pause_batch("b")
    TaskLog.objects.filter(pk=everything[RETRYING].pk).update(retry_at=seconds_ago(1))

    taskcontrol.enqueue(tasks.nothing, batch_id="b")
    assert retry_failed_tasks() == 1
    dispatch_pending()

    assert batches.counts("b")["Paused"] == 5
    assert not TaskLog.objects.filter(batch_id="b", status=Status.QUEUED).exists()


def test_resuming_lets_all_go_on_at_their_places(everything):
    places = TaskLog.objects.filter(pk=everything["Pending"].pk).values_list(
        "position", "batch_order", "lane"
    )
    before = places.get()
    taskcontrol.pause_batch("b", "month end")

    assert taskcontrol.resume_batch("b") == 3

    assert batches.counts("b")["Paused"] == 0
    row = TaskLog.objects.get(pk=everything["Pending"].pk)
    assert (row.status, row.ready_lane) == (Status.PENDING, row.lane)
    assert places.get() == before
    batch = TaskBatch.objects.get(pk="b")
    assert (batch.paused_at, batch.paused_by, batch.paused_reason) == (None, None, "")


def test_resuming_forgives_the_failures_so_far_and_no_later_one():
    make_batch(on_failure="hold")
    member(Status.FAILED)
    rest, second = member(), member(Status.STARTED)
    settle_batches()
    taskcontrol.resume_batch("b")
    settle_batches()
    assert TaskLog.objects.get(pk=rest.pk).status == Status.PENDING

    lifecycle.fail(second.pk, 1, error="no")
    settle_batches()

    assert TaskLog.objects.get(pk=rest.pk).status == Status.PAUSED


def test_a_batch_of_many_pages_is_moved_whole(conf):
    conf(SWEEP_PAGE=3)
    make_batch()
    for _ in range(8):
        member()
        member(Status.QUEUED)
        member(Status.FAILED)

    assert taskcontrol.pause_batch("b") == 16
    assert taskcontrol.resume_batch("b") == 16
    assert taskcontrol.retry_batch("b") == 8
    assert taskcontrol.cancel_batch("b") == 24
    assert taskcontrol.retry_batch("b", canceled=True) == 24
    assert batches.progress("b")["done"] == 0


# Retry


def test_retrying_a_batch_runs_again_what_failed(everything):
    user = make_user("ann", "retry_tasklog")

    assert taskcontrol.retry_batch("b", user=user) == 2

    assert moved(everything) == {"Failed": Status.PENDING, RETRYING: Status.PENDING}
    events = TaskEvent.objects.filter(kind=Kind.RETRIED, actor=user)
    assert events.count() == 2
    assert others_stay()


def test_what_was_canceled_runs_again_if_that_is_said(everything):
    taskcontrol.cancel_batch("b")

    assert taskcontrol.retry_batch("b", canceled=True) == 7

    assert batches.counts("b")["Canceled"] == 0
    assert taskcontrol.enqueue(tasks.nothing, batch_id="b")


def test_a_batch_that_had_ended_goes_on():
    make_batch()
    member(Status.FAILED)
    assert settle_batches() == 1

    assert taskcontrol.retry_batch("b") == 1

    row = TaskBatch.objects.get()
    assert row.ended_at is None
    assert row.open_since is not None


def test_a_retry_clears_what_ended_the_task():
    make_batch()
    task = member(Status.FAILED, error_message="no", run_at=seconds_ago(-900))

    taskcontrol.retry_batch("b")

    task.refresh_from_db()
    assert (task.error_message, task.run_at, task.ready_lane) == ("", None, task.lane)


@pytest.mark.django_db(transaction=True)
def test_a_member_that_fails_again_while_its_batch_is_retried_is_retried_once(conf):
    conf(SWEEP_PAGE=1)
    make_batch()
    first, _ = member(Status.FAILED), member(Status.FAILED)

    def fail_again(task, new, **_):
        if task.pk == first.pk and new == Status.PENDING and task.retry_count < 4:
            number = task.attempt + 1
            lifecycle.promote([task.pk], site="s")
            lifecycle.claim(task.pk, number, worker_id=None, pid=1)
            lifecycle.fail(task.pk, number, error="again")

    task_status_changed.connect(fail_again)
    try:
        assert taskcontrol.retry_batch("b") == 2
    finally:
        task_status_changed.disconnect(fail_again)

    first.refresh_from_db()
    assert (first.retry_count, first.status) == (1, Status.FAILED)


def test_a_task_whose_key_another_one_has_taken_stays_as_it_is():
    make_batch()
    keyed = [
        taskcontrol.enqueue(tasks.nothing, job_id=key, deduplicate=True, batch_id="b")
        for key in ("free", "taken")
    ]
    for task in keyed:
        taskcontrol.cancel(task)
    taskcontrol.enqueue(tasks.nothing, job_id="taken", deduplicate=True)

    assert taskcontrol.retry_batch("b", canceled=True) == 1

    assert [TaskLog.objects.get(pk=task.pk).status for task in keyed] == [
        Status.PENDING,
        Status.CANCELED,
    ]


# Who may


@pytest.mark.parametrize("act", ACTS)
def test_without_the_permission_nothing_moves(everything, act):
    do, permission = ACTS[act]
    user = make_user("eve")

    with pytest.raises(NotPermitted, match=f"eve may not {act} batch b: .*{permission}"):
        do("b", user=user)

    assert moved(everything) == {}
    row = TaskBatch.objects.get(pk="b")
    assert (row.paused_at, row.canceled_at, row.resumed_at) == (None, None, None)


@pytest.mark.parametrize("act", ACTS)
def test_with_the_permission_it_is_done(everything, act):
    do, permission = ACTS[act]

    assert do("b", user=make_user("ann", permission)) > 0


def test_the_creator_of_a_batch_cancels_the_own_tasks_whose_type_allows_it():
    user = make_user("ann")
    make_batch(created_by=user)
    make_type("tests.tasks.fail", owner_may_cancel=False)
    own = member(created_by=user)
    kept = [member(created_by=user, method="tests.tasks.fail"), member()]

    assert taskcontrol.cancel_batch("b", user=user) == 1

    assert TaskLog.objects.get(pk=own.pk).status == Status.CANCELED
    assert [TaskLog.objects.get(pk=row.pk).status for row in kept] == ["Pending"] * 2


def test_the_creator_of_a_batch_retries_the_own_tasks_whose_type_allows_it():
    user = make_user("ann")
    make_batch(created_by=user)
    make_type("tests.tasks.fail", owner_may_retry=True)
    member(Status.FAILED, created_by=user)
    allowed = member(Status.FAILED, created_by=user, method="tests.tasks.fail")

    assert taskcontrol.retry_batch("b", user=user) == 1

    assert TaskLog.objects.get(pk=allowed.pk).status == Status.PENDING


@pytest.mark.parametrize("act", ACTS)
def test_a_batch_that_is_not_there_is_named(act):
    with pytest.raises(BatchNotFound, match="There is no batch 'nowhere'"):
        ACTS[act][0]("nowhere")


# Cost and races


@pytest.mark.parametrize("act", ACTS)
def test_twice_the_tasks_cost_no_more_statements(act):
    def cost(batch_id: str, number: int) -> int:
        make_batch(batch_id)
        status = {"resume": Status.PAUSED, "retry": Status.FAILED}.get(act, Status.PENDING)
        for _ in range(number):
            member(status, batch_id=batch_id)
        with CaptureQueriesContext(connection) as queries:
            assert ACTS[act][0](batch_id) == number
        return len(statements(queries))

    assert cost("few", 2) == cost("many", 40)


def test_what_a_caller_rolls_back_was_never_done(everything):
    with transaction.atomic():
        assert taskcontrol.cancel_batch("b") == 5
        transaction.set_rollback(True)

    assert moved(everything) == {}
    assert TaskBatch.objects.get(pk="b").canceled_at is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", JOIN)
def test_no_task_slips_into_a_batch_while_it_is_canceled(how):
    keys = [f"b{number}" for number in range(15)]
    for key in keys:
        make_batch(key)
        member(batch_id=key)

    answers = race_over(keys, JOIN[how], taskcontrol.cancel_batch)

    for joined, canceled in answers:
        assert not isinstance(joined, Exception) or isinstance(joined, BatchClosed)
        assert not isinstance(canceled, Exception), canceled
    left = TaskLog.objects.exclude(status=Status.CANCELED)
    assert not left.exists()


@pytest.mark.django_db(transaction=True)
def test_of_a_pause_and_a_resume_at_one_moment_one_holds_for_the_whole_batch():
    keys = [f"b{number}" for number in range(15)]
    for key in keys:
        make_batch(key, paused_at=seconds_ago(9))
        for status in (Status.PENDING, Status.PAUSED, Status.PAUSED):
            member(status, batch_id=key)

    answers = race_over(keys, taskcontrol.pause_batch, taskcontrol.resume_batch)
    settle_batches()

    assert not any(isinstance(one, Exception) for row in answers for one in row), answers
    for key in keys:
        paused = TaskBatch.objects.get(pk=key).paused_at is not None
        numbers = batches.counts(key)
        assert numbers["Paused" if paused else "Pending"] == 3


@pytest.mark.django_db(transaction=True)
def test_a_retry_and_a_cancel_of_the_same_batch_lose_no_task_p9():
    keys = [f"b{number}" for number in range(12)]
    for key in keys:
        make_batch(key, total=3)
        for _ in range(3):
            member(Status.FAILED, batch_id=key)

    answers = race_over(
        keys,
        lambda key: taskcontrol.retry_batch(key, canceled=True),
        taskcontrol.cancel_batch,
    )

    assert not any(isinstance(one, Exception) for row in answers for one in row), answers
    for key in keys:
        numbers = batches.counts(key)
        assert sum(numbers.values()) == 3
        row = TaskBatch.objects.get(pk=key)
        assert row.ended_at is None or batches.progress(key)["done"] == 3
