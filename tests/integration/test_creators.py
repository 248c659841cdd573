"""P2 and P8 with a real worker: nothing of a rollback runs, and bodies run as their creators."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import IntegrityError, transaction

import taskcontrol
from taskcontrol.context import acting_as
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user
from tests.integration.watching import all_ended, ended, row
from tests.models import Counter

pytestmark = pytest.mark.integration


class Undo(Exception):
    """Rolls back."""


def undone():
    """Enqueue in every way in a transaction that does not come to its end."""
    with suppress(Undo), transaction.atomic():
        taskcontrol.enqueue(tasks.recorded)
        taskcontrol.enqueue(tasks.recorded, at_front=True, job_id="undone")
        taskcontrol.bulk_enqueue({"method": tasks.recorded} for _ in range(5))
        raise Undo


def test_a_rolled_back_enqueue_leaves_nothing_and_never_runs_p2(worker, record):
    undone()

    ended(taskcontrol.enqueue(tasks.nothing))
    assert TaskLog.objects.count() == 1
    assert not TaskBatch.objects.exists()
    assert record.lines() == []


def test_a_rolled_back_savepoint_takes_its_tasks_along_p2(worker, record):
    with transaction.atomic():
        kept = taskcontrol.enqueue(tasks.recorded, tag="kept")
        undone()

    ended(kept)
    ended(taskcontrol.enqueue(tasks.nothing))
    assert [line["tag"] for line in record.lines("started")] == ["kept"]
    assert TaskLog.objects.count() == 2


def test_what_a_failing_body_enqueued_in_a_transaction_leaves_nothing_p2(worker, record):
    failed = ended(taskcontrol.enqueue(tasks.enqueue_and_fail, atomic_block=True))

    assert failed.status == Status.FAILED
    ended(taskcontrol.enqueue(tasks.nothing))
    assert TaskLog.objects.count() == 2
    assert record.lines() == []


def test_what_a_failing_body_enqueued_outside_of_one_runs_p2(worker, record):
    failed = ended(taskcontrol.enqueue(tasks.enqueue_and_fail))

    child = TaskLog.objects.exclude(pk=failed.pk).get()
    assert ended(child).status == Status.FINISHED


def test_nothing_runs_before_the_commit_of_its_caller_p2(worker, record):
    Counter.objects.create(name="seen")

    with transaction.atomic():
        task = taskcontrol.enqueue(tasks.raise_counter, name="seen")
        Counter.objects.filter(name="seen").update(value=10)

    ended(task)
    assert Counter.objects.get(name="seen").value == 11


def test_a_constraint_that_fails_at_the_commit_takes_the_task_along_p2(worker, record):
    make_user("ann")

    with suppress(IntegrityError), transaction.atomic():
        taskcontrol.enqueue(tasks.recorded)
        make_user("ann")

    ended(taskcontrol.enqueue(tasks.nothing))
    assert record.lines() == []


def test_users_do_not_leak_from_task_to_task_of_one_child_p8(one_slot):
    ann, bob = make_user("ann"), make_user("bob")
    creators = [ann, None, bob, ann, None, None, bob]

    rows = [taskcontrol.enqueue(tasks.whoami, created_by=user) for user in creators]

    said = [now.result for now in all_ended(rows)]
    assert said == ["ann", "", "bob", "ann", "", "", "bob"]
    assert len({row(task).pid for task in rows}) == 1


@pytest.mark.parametrize(
    "end", [tasks.fail, tasks.leave, tasks.recurse, tasks.run_out_of_memory, tasks.crash]
)
def test_no_user_leaks_from_a_body_that_ends_badly_p8(one_slot, end):
    ann = make_user("ann")
    bad = taskcontrol.enqueue(end, created_by=ann)
    after = taskcontrol.enqueue(tasks.whoami)

    assert ended(bad).status == Status.FAILED
    assert ended(after).result == ""


def test_a_child_inherits_the_creator_through_generations_p8(worker):
    ann = make_user("ann")

    parent = taskcontrol.enqueue(
        tasks.enqueue_child,
        created_by=ann,
        arguments={"method": "tests.tasks.enqueue_child"},
    )

    first = ended(parent)

    second = ended(TaskLog.objects.get(pk=first.result))
    third = ended(TaskLog.objects.get(pk=second.result))
    assert (second.created_by, third.created_by, third.result) == (ann, ann, "ann")


def test_the_user_of_the_caller_is_the_creator_p8(worker):
    ann = make_user("ann")

    with acting_as(ann):
        mine = taskcontrol.enqueue(tasks.whoami)
        systems = taskcontrol.enqueue(tasks.whoami, created_by=None)

    assert [ended(mine).result, ended(systems).result] == ["ann", ""]


def test_a_task_keeps_its_creator_in_every_attempt_p8(worker):
    ann = make_user("ann")

    now = ended(taskcontrol.enqueue(tasks.fail_as_whom, max_retries=2, created_by=ann))

    assert (now.attempt, now.status) == (3, Status.FAILED)
    assert "ann in attempt 3" in now.error_message


def test_threads_of_one_worker_do_not_mix_their_users_p8(start_worker):
    start_worker(pool="threads", concurrency=4)
    users = [make_user(name) for name in ("ann", "bob", "cid", "dot")]
    rows = [
        taskcontrol.enqueue(tasks.whoami_after, seconds=0.3, created_by=user)
        for user in users * 3
    ]

    said = [now.result for now in all_ended(rows)]
    assert said == [[name, name] for name in ("ann", "bob", "cid", "dot")] * 3


def test_the_task_of_a_deleted_user_runs_as_nobody_p8(worker):
    ann = make_user("ann")
    task = taskcontrol.enqueue(tasks.whoami, created_by=ann, paused=True)
    ann.delete()

    taskcontrol.resume(task)

    now = ended(task)
    assert now.status in {Status.FINISHED, Status.FAILED}
    assert now.result in {"", None}
