"""fenced() and held(): what a block writes is committed with the end, or while it is held."""

from __future__ import annotations

import sys

import pytest
from django.db import OperationalError, connection, transaction

import taskcontrol
from taskcontrol import execution, lifecycle
from taskcontrol.context import current_task
from taskcontrol.currenttask import CurrentTask
from taskcontrol.exceptions import TaskCanceled, TaskUserGone, WithinTransaction
from taskcontrol.execution import run_claimed
from taskcontrol.models import DispatcherState, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, make_user
from tests.models import Counter
from tests.test_execution import made, outcome, queued
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


TASKS = TaskLog._meta.db_table


def written():
    return list(Counter.objects.values_list("name", flat=True))


def run_with(task, body):
    made["body"] = body
    return run_claimed(execution.claim(task.pk, 1))


def test_a_fenced_block_of_the_holder_is_committed():
    def body():
        with current_task().fenced():
            Counter.objects.create(name="inside")
            assert connection.in_atomic_block
        return connection.in_atomic_block

    row = outcome(body)

    assert (row.status, row.result, written()) == (Status.FINISHED, False, ["inside"])


def test_the_block_and_the_end_are_one_transaction_p3():
    task = queued()
    seen = []

    def body():
        with current_task().fenced():
            Counter.objects.create(name="inside")
        seen.append(TaskLog.objects.get(pk=task.pk).status)
        sys.stdout.write("afterwards\n")
        return 7

    assert run_with(task, body) is True

    now = TaskLog.objects.get(pk=task.pk)
    assert seen == [Status.FINISHED]
    assert (now.status, now.result, now.debug_log) == (Status.FINISHED, 7, "afterwards\n")
    assert not now.occupies


def test_the_place_is_held_until_the_body_behind_the_block_is_gone_p4():
    task = queued()
    held = []

    def body():
        with current_task().fenced():
            Counter.objects.create(name="inside")
        held.append(TaskLog.objects.get(pk=task.pk).occupies)

    assert run_with(task, body) is True
    assert held == [True]
    assert not TaskLog.objects.get(pk=task.pk).occupies


def test_a_process_that_dies_behind_the_block_lets_nothing_run_again():
    """What a rescue would find of it: an end, which is final."""
    task = queued()

    def body():
        with current_task().fenced():
            Counter.objects.create(name="once")
        assert not lifecycle.rescue(task.pk, 1, detail="lost")

    assert run_with(task, body) is True
    assert written() == ["once"]


@pytest.mark.parametrize(
    "error", [ValueError("late"), OperationalError("deadlock detected")]
)
def test_an_error_behind_the_block_changes_nothing_and_is_logged(error, caplog):
    runs = []

    def body():
        runs.append(1)
        with current_task().fenced():
            Counter.objects.create(name="once")
        raise error

    row = outcome(body)

    assert (row.status, row.error_message, len(runs)) == (Status.FINISHED, "", 1)
    assert f"Task {row.pk} stays Finished: its body failed after its end." in caplog.text
    assert written() == ["once"]


def test_a_body_has_one_fenced_block():
    def body():
        for name in ("first", "second"):
            with current_task().fenced():
                Counter.objects.create(name=name)

    row = outcome(body)

    assert (row.status, written()) == (Status.FINISHED, ["first"])
    assert "a body has one, and steps before it stand in held()" in row.debug_log


def test_steps_before_the_end_are_committed_while_it_holds_the_task():
    def body():
        for name in ("first", "second"):
            with current_task().held():
                Counter.objects.create(name=name)
        raise ValueError

    assert (outcome(body).status, written()) == (Status.FAILED, ["first", "second"])


def taken_away(task, how):
    """Cancel a task, or give up on its first attempt; return whether that was done."""
    if how == "lost":
        return lifecycle.rescue(task.pk, 1, detail="lost")
    return bool(lifecycle.cancel(TaskLog.objects.get(pk=task.pk)))


@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("how", ["canceled", "lost"])
def test_a_step_of_an_attempt_that_holds_the_task_no_more_is_rolled_back_p3(how):
    task = queued()

    def body():
        with current_task().held():
            Counter.objects.create(name="late")
            assert beside(lambda: taken_away(task, how))

    assert run_with(task, body) is False
    assert written() == []


@pytest.mark.only_on("postgresql", "mysql")
def test_nobody_takes_the_task_between_the_last_question_and_the_commit_p3():
    task = queued()
    asked = []

    def at_the_last_question(execute, sql, *given):
        answer = execute(sql, *given)
        if sql.startswith("SELECT") and TASKS in sql and not asked and written():
            asked.append(beside(lambda: lifecycle.rescue(task.pk, 1, detail="lost")))
        return answer

    def body():
        with connection.execute_wrapper(at_the_last_question), current_task().held():
            Counter.objects.create(name="step")

    assert run_with(task, body) is True
    assert (asked, written()) == ([False], ["step"])


def test_a_step_is_not_entered_by_an_attempt_that_was_given_up_on_p3():
    task = queued()
    entered = []

    def body():
        assert lifecycle.rescue(task.pk, 1, detail="lost")
        with current_task().held():
            entered.append(1)

    assert run_with(task, body) is False
    assert entered == []


def test_what_runs_at_once_is_fenced_too():
    made["body"] = exclaim_in_a_fence

    row = taskcontrol.enqueue("tests.test_execution.made_up", now=True)

    assert (row.status, row.result, written()) == (Status.FINISHED, "!", ["!"])
    with transaction.atomic():
        taskcontrol.enqueue("tests.test_execution.made_up", now=True)
        transaction.set_rollback(True)
    assert written() == ["!"]


def exclaim_in_a_fence():
    with current_task().fenced():
        Counter.objects.create(name="!")
    return "!"


def test_an_attempt_that_was_given_up_on_does_not_enter_p3():
    task = queued()
    entered = []

    def body():
        lifecycle.rescue(task.pk, 1, detail="lost")
        lifecycle.promote([task.pk], site="s")
        lifecycle.claim(task.pk, 2, worker_id=None, pid=1)
        with current_task().fenced():
            entered.append(1)

    assert run_with(task, body) is False

    now = TaskLog.objects.get()
    assert (now.status, now.attempt, entered) == (Status.STARTED, 2, [])


@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("how", ["canceled", "lost"])
def test_what_was_written_before_the_task_was_taken_away_is_rolled_back_p3(how):
    task = queued()

    def body():
        with current_task().fenced():
            Counter.objects.create(name="late")
            # Nobody waits for the block.
            assert beside(lambda: taken_away(task, how))

    assert run_with(task, body) is False

    assert written() == []


@pytest.mark.parametrize("how", ["followed by another", "canceled"])
def test_an_attempt_that_nobody_waits_for_is_told_so_when_it_asks_p3(how):
    """As a body in a thread does, which cannot be stopped."""
    task = make_task(Status.STARTED)
    CurrentTask(task).check_canceled()
    if how == "canceled":
        assert lifecycle.cancel(task)
    else:
        TaskLog.objects.filter(pk=task.pk).update(attempt=2)

    with pytest.raises(TaskCanceled):
        CurrentTask(task).check_canceled()


def test_an_error_in_the_block_is_the_bodys():
    def body():
        with current_task().fenced():
            Counter.objects.create(name="half")
            raise ValueError("mine")

    row = outcome(body)

    assert (row.status, written()) == (Status.FAILED, [])
    assert row.error_message.endswith("ValueError: mine")


@pytest.mark.parametrize("block", ["fenced", "held"])
def test_inside_another_transaction_it_says_what_to_do(block):
    def body():
        with transaction.atomic(), getattr(current_task(), block)():
            Counter.objects.create(name="inside")

    row = outcome(body)

    assert (row.status, written()) == (Status.FAILED, [])
    assert f"{block}() of task {row.pk} stands inside another trans" in row.error_message
    assert "Leave that one out" in row.error_message
    assert issubclass(WithinTransaction, RuntimeError)


def test_the_key_for_outside_systems_is_that_of_every_attempt_and_of_no_other_site():
    first, second = (CurrentTask(make_task("Started", attempt=n)) for n in (1, 2))
    second.id = first.id
    key = first.idempotency_key
    assert key.endswith(f"-{first.id}")
    assert second.idempotency_key == key

    DispatcherState.objects.update(site="another1")

    assert first.idempotency_key == f"taskcontrol-another1-{first.id}"


def test_a_body_that_asks_for_a_deleted_user_is_told_whose_it_was():
    gone = make_user("gone")
    task = make_task("Started", created_by=gone)
    key = gone.pk
    gone.delete()
    task.refresh_from_db()

    with pytest.raises(
        TaskUserGone, match=f"Task {task.pk} runs as user {key}, who was del"
    ):
        _ = CurrentTask(task).user


def test_a_deactivated_user_is_returned_and_may_nothing():
    task = make_task("Started", created_by=make_user("left", is_active=False))

    user = CurrentTask(task).user
    assert not user.is_active
    assert not user.has_perm("taskcontrol.view_tasklog")


@pytest.mark.only_on("postgresql", "mysql")
def test_in_an_atomic_body_the_block_is_a_part_of_the_whole():
    def body():
        Counter.objects.create(name="before")
        with current_task().fenced():
            Counter.objects.create(name="inside")
        if current_task().row.job_name == "fails":
            raise ValueError

    assert outcome(body, options={"atomic": True}, job_name="fails").retry_at is None
    assert written() == []
    outcome(body, options={"atomic": True})
    assert sorted(written()) == ["before", "inside"]
