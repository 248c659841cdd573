"""on_success and on_failure: called at the end, as the creator, after the commit, harmlessly."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

import taskcontrol
from taskcontrol import announcing, execution, interrupts, lifecycle
from taskcontrol.context import current_task, current_user, without_user_code
from taskcontrol.exceptions import InvalidCall, TimedOut
from taskcontrol.losses import lose
from taskcontrol.models import Announcement, TaskEvent, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]

HERE = "tests.test_callbacks"

#: What the callbacks were called with, in order.
calls: list[object] = []


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


class OutOfStock(Exception):
    """An error of the project."""


def sell(number=0):
    if number == 0:
        raise OutOfStock("none is left:\n  come back tomorrow")
    return number


def sold(job):
    calls.append(("sold", job.status, job.result, connection.in_atomic_block))


def not_sold(job, exc_type, exc_value, traceback):
    calls.append((exc_type, exc_value, traceback == job.error_message))


def told(job):
    calls.append((job.status, job.attempt))


def say_as_whom():
    child = taskcontrol.enqueue(tasks.nothing)
    calls.append((str(current_user()), current_task(), str(child.created_by)))


def break_down():
    raise RuntimeError("the callback broke")


def leave():
    raise SystemExit("enough")


def hit_the_keys():
    raise KeyboardInterrupt


def ran(task):
    """Run a task to the end of this attempt."""
    lifecycle.promote([task.pk], site="s")
    execution.run(task.pk, task.attempt + 1)
    return TaskLog.objects.get(pk=task.pk)


def test_a_finished_task_calls_on_success_after_its_commit():
    ran(taskcontrol.enqueue(sell, number=3, on_success=sold, on_failure=not_sold))

    assert calls == [("sold", Status.FINISHED, 3, False)]


def test_a_failed_task_calls_on_failure_with_its_error():
    ran(taskcontrol.enqueue(sell, on_success=sold, on_failure=f"{HERE}.not_sold"))

    assert calls == [(OutOfStock, "none is left:\n  come back tomorrow", True)]


def test_a_failure_that_is_retried_is_no_end_p7():
    task = taskcontrol.enqueue(sell, on_failure=told, max_retries=1)

    task = ran(task)
    assert calls == []
    lifecycle.retry_due([task.pk])
    ran(task)

    assert calls == [(Status.FAILED, 2)]


def test_a_retry_by_hand_leads_to_another_end_that_is_told_again():
    task = ran(taskcontrol.enqueue(sell, on_failure=told))
    taskcontrol.retry(task)

    ran(task)

    assert calls == [(Status.FAILED, 1), (Status.FAILED, 2)]


@pytest.mark.parametrize("started", [False, True])
def test_a_canceled_task_calls_nothing(started):
    task = taskcontrol.enqueue(sell, on_success=told, on_failure=told)
    if started:
        lifecycle.promote([task.pk], site="s")
        lifecycle.claim(task.pk, 1, worker_id=None, pid=1)

    taskcontrol.cancel(task)

    assert calls == []
    assert not Announcement.objects.exists()


def test_a_callback_runs_as_the_creator_apart_from_the_task_p8():
    ran(taskcontrol.enqueue(sell, number=1, on_success=say_as_whom, created_by=None))
    ran(taskcontrol.enqueue(sell, on_failure=say_as_whom, created_by=make_user("ann")))

    assert calls == [("None", None, "None"), ("ann", None, "ann")]


@pytest.mark.parametrize("callback", [break_down, leave, hit_the_keys])
def test_what_a_callback_raises_is_shown_and_changes_nothing_p11(callback, caplog):
    done = ran(taskcontrol.enqueue(sell, number=1, on_success=callback))
    failed = ran(taskcontrol.enqueue(sell, on_failure=callback))

    assert (done.status, done.result, failed.status) == (
        Status.FINISHED,
        1,
        Status.FAILED,
    )
    assert not Announcement.objects.exists()
    details = TaskEvent.objects.filter(kind=TaskEvent.Kind.CALLBACK).values_list("detail")
    first, second = [detail for (detail,) in details.order_by("pk")]
    assert first.startswith(f"on_success {HERE}.{callback.__name__}: ")
    assert second.startswith(f"on_failure {HERE}.{callback.__name__}: ")
    assert caplog.text.count(f"failed: {HERE}.{callback.__name__}.") == 2


def test_a_callback_that_was_not_deployed_is_shown():
    task = taskcontrol.enqueue(sell, number=1, on_success=sold)
    task.options["on_success"] = f"{HERE}.removed"
    task.save(update_fields=["options"])

    assert ran(task).status == Status.FINISHED

    event = TaskEvent.objects.get(kind=TaskEvent.Kind.CALLBACK)
    assert "Unknown method 'tests.test_callbacks.removed'" in event.detail


def test_a_callback_is_called_later_where_user_code_may_not_run():
    task = taskcontrol.enqueue(sell, on_failure=not_sold)
    lifecycle.promote([task.pk], site="s")
    row = execution.claim(task.pk, 1)
    with without_user_code():
        lose_for_good(row)
    assert calls == []

    announcing.deliver_stored()

    (call,) = calls
    assert call[0] is taskcontrol.exceptions.WorkerLost
    assert "process" in call[1]


def lose_for_good(row):
    row.options["on_lost"] = "fail"
    lose(row, "worker w")


def test_a_time_limit_is_told_as_ours():
    task = taskcontrol.enqueue(sell, on_failure=not_sold, timeout=5)
    lifecycle.promote([task.pk], site="s")
    row = execution.claim(task.pk, 1)

    lifecycle.fail(
        row.pk, 1, error=f"TimedOut: {TimedOut(5)} And more.", reason="timed out"
    )

    ((kind, said, _),) = calls
    assert kind is TimedOut
    assert said.startswith("The task ran longer than its timeout of 5 s.")


def test_a_crash_between_end_and_callback_calls_it_later_p1(monkeypatch):
    task = taskcontrol.enqueue(sell, number=1, on_success=told)
    monkeypatch.setattr(announcing, "deliver_stored", lambda _ids: None)
    ran(task)
    monkeypatch.undo()
    assert calls == []

    assert announcing.has_stored()
    announcing.deliver_stored()

    assert calls == [(Status.FINISHED, 1)]


def test_a_process_that_must_go_leaves_its_callback_to_another_p1(monkeypatch):
    task = taskcontrol.enqueue(sell, number=1, on_success=leave)
    monkeypatch.setattr(announcing, "deliver_stored", lambda _ids: None)
    ran(task)
    monkeypatch.undo()
    monkeypatch.setattr(interrupts, "process_must_go", lambda: True)

    with pytest.raises(SystemExit):
        announcing.deliver_stored()

    assert announcing.has_stored()
    assert not TaskEvent.objects.exists()


def test_a_rolled_back_end_calls_nothing_p2():
    task = taskcontrol.enqueue(sell, number=1, on_success=sold)
    lifecycle.promote([task.pk], site="s")
    lifecycle.claim(task.pk, 1, worker_id=None, pid=1)

    with transaction.atomic():
        lifecycle.finish(task.pk, 1)
        transaction.set_rollback(True)

    assert calls == []
    assert not Announcement.objects.exists()


def test_a_task_that_runs_at_once_calls_its_callbacks_too():
    taskcontrol.enqueue(sell, number=1, on_success=sold, now=True)
    with pytest.raises(OutOfStock):
        taskcontrol.enqueue(sell, on_failure=not_sold, now=True)

    assert calls[0][:3] == ("sold", Status.FINISHED, 1)
    assert calls[1][0] is OutOfStock


def test_all_tasks_of_a_bulk_may_have_callbacks_and_one_its_own():
    taskcontrol.bulk_enqueue(
        [
            {"method": sell, "arguments": {"number": 1}},
            {"method": sell, "arguments": {"number": 2}, "on_success": sold},
        ],
        on_success=told,
    )

    for task in TaskLog.objects.order_by("pk"):
        ran(task)

    assert calls == [(Status.FINISHED, 1), ("sold", Status.FINISHED, 2, False)]


def test_a_callback_that_could_not_be_called_is_refused_at_the_call():
    with pytest.raises(InvalidCall, match=r"on_success: .* wants exc_type"):
        taskcontrol.enqueue(sell, on_success=not_sold)
    with pytest.raises(PermissionError, match=r"'os\.getpid' may not run"):
        taskcontrol.enqueue(sell, on_failure="os.getpid")
    with pytest.raises(InvalidCall, match=r"(?s)gone' cannot be called.*This was task 0"):
        taskcontrol.bulk_enqueue([{"method": sell}], on_failure=f"{HERE}.gone")

    assert not TaskLog.objects.exists()
