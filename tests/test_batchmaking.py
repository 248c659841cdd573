"""Making a batch before its tasks: what it takes, what it refuses, what it stores."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from django.db import transaction

import taskcontrol
from taskcontrol.context import acting_as
from taskcontrol.exceptions import (
    BatchExists,
    InvalidCall,
    MethodNotAllowed,
    TaskControlError,
)
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.settling import settle_batches
from tests import tasks
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def takes_batch_id(batch_id: str, greeting: str = "hello") -> str:
    """Return what it was given."""
    return f"{greeting} {batch_id}"


def callback(**given) -> TaskLog:
    """End a batch that was made so, and return the task that it calls back with."""
    key = taskcontrol.create_batch(**given)
    taskcontrol.bulk_enqueue([], batch_id=key)
    assert settle_batches() == 1
    return TaskLog.objects.get()


def test_a_batch_has_no_tasks_and_does_not_end_before_they_come():
    key = taskcontrol.create_batch("import-7", title="Import of May")

    row = TaskBatch.objects.get()
    assert (key, row.pk, row.title, row.total) == ("import-7", key, "Import of May", 0)
    assert (row.open_since, row.on_failure, row.callbacks) == (None, "continue", {})
    assert settle_batches() == 0


def test_without_an_id_it_gets_a_new_one():
    keys = {taskcontrol.create_batch() for _ in range(3)}

    assert len(keys) == 3
    assert all(uuid.UUID(key).version == 4 for key in keys)


def test_its_tasks_join_by_its_id():
    key = taskcontrol.create_batch(title="Import")

    taskcontrol.bulk_enqueue([{"method": tasks.nothing}] * 2, batch_id=key)
    taskcontrol.enqueue(tasks.nothing, batch_id=key)

    row = TaskBatch.objects.get()
    assert (row.total, row.title) == (3, "Import")


def test_it_belongs_to_who_makes_it_unless_it_says_otherwise():
    ann, bob = make_user("ann"), make_user("bob")

    with acting_as(ann):
        own = taskcontrol.create_batch()
        bobs = taskcontrol.create_batch(created_by=bob)
        nobodys = taskcontrol.create_batch(created_by=None)

    creators = {row.pk: row.created_by for row in TaskBatch.objects.all()}
    assert creators == {own: ann, bobs: bob, nobodys: None}


def test_a_title_that_is_too_long_is_cut():
    taskcontrol.create_batch(title="x" * 400)

    assert len(TaskBatch.objects.get().title) == 300


# Callbacks


@pytest.mark.parametrize("method", [tasks.nothing, "tests.tasks.nothing"])
def test_a_callback_is_a_function_or_its_path(method):
    task = callback(on_completion=method)

    assert (task.method, task.arguments) == ("tests.tasks.nothing", {})


def test_a_callback_may_say_how_it_runs_and_with_what():
    task = callback(
        on_success={
            "method": tasks.give_back,
            "value": 5,
            "queue": "short",
            "max_retries": 3,
            "retry_delay": 60,
            "job_name": "Tell everybody",
            "timeout": 77,
            "priority": 9,
        }
    )

    assert task.arguments == {"value": 5}
    assert (task.queue, task.max_retries, task.job_name) == ("short", 3, "Tell everybody")
    assert (task.timeout, task.priority) == (77, 9)
    assert task.retry_delay == 60


def test_a_callback_that_has_a_parameter_for_the_batch_gets_its_id():
    task = callback(batch_id="b", on_success=takes_batch_id)

    assert task.arguments == {"batch_id": "b"}


def test_what_the_caller_gives_a_callback_beats_the_id():
    given = {"batch_id": "another", "greeting": "bye"}
    task = callback(on_success={"method": takes_batch_id, "arguments": given})

    assert task.arguments == given


def test_a_callback_has_the_policies_that_enqueue_gives():
    backoff = {"factor": 3, "max": 600, "jitter": False}
    task = callback(
        on_success={
            "method": tasks.nothing,
            "max_retries": 2,
            "backoff": backoff,
            "retry_on": [ValueError],
        }
    )
    same = taskcontrol.enqueue(
        tasks.nothing, max_retries=2, backoff=backoff, retry_on=[ValueError]
    )

    assert task.options == same.options != {}


# What is refused

REFUSED = [
    ({"batch_id": ""}, "batch_id must not be empty; leave it out to get a new one."),
    ({"batch_id": "x" * 141}, "batch_id"),
    ({"hold_on_failure": "yes"}, "hold_on_failure must be True or False, not 'yes'"),
    ({"created_by": "bob"}, "created_by must be a saved user or None, not 'bob'."),
    ({"on_success": lambda: None}, "Cannot enqueue"),
    ({"on_failure": {}}, "method"),
    ({"on_success": {"method": tasks.add}}, "missing a required argument: 'left'"),
    ({"on_success": {"method": tasks.nothing, "x": 1}}, "'x'"),
    ({"on_success": {"method": tasks.nothing, "queue": "fast"}}, "Unknown queue 'fast'"),
    (
        {"on_completion": {"method": tasks.nothing, "run_at": 5}},
        "The callback of a batch takes no 'run_at'; of the options of enqueue() it takes: ",
    ),
]


@pytest.mark.parametrize(("given", "why"), REFUSED)
def test_what_could_never_work_is_refused_at_the_call(given, why):
    with pytest.raises(InvalidCall) as refused:
        taskcontrol.create_batch(**given)

    assert why in str(refused.value)
    assert not TaskBatch.objects.exists()


def test_a_callback_that_may_not_run_is_refused_and_named():
    with pytest.raises(MethodNotAllowed) as refused:
        taskcontrol.create_batch(on_failure="os.system")

    assert refused.value.__notes__ == [
        "This was on_failure of create_batch; nothing was stored."
    ]


def test_an_id_that_is_taken_is_refused_and_the_transaction_goes_on():
    taskcontrol.bulk_enqueue([{"method": tasks.nothing}], batch_id="b")

    with (
        transaction.atomic(),
        pytest.raises(BatchExists, match="There is a batch 'b' already"),
    ):
        taskcontrol.create_batch("b", on_success=tasks.nothing)

    row = TaskBatch.objects.get()
    assert (row.total, row.callbacks) == (1, {})


def test_the_page_quotes_the_refusals_as_they_are():
    key = taskcontrol.create_batch("invoices-may")
    taskcontrol.cancel_batch(key)
    calls = [
        lambda: taskcontrol.enqueue(tasks.nothing, batch_id=key),
        lambda: taskcontrol.create_batch(key),
        lambda: taskcontrol.bulk_enqueue([{"batch_id": "june"}], key, method=tasks.nothing),
        lambda: taskcontrol.cancel_batch("nowhere"),
        lambda: taskcontrol.cancel_batch(key, user=make_user("eve")),
    ]
    page = (Path(__file__).parent.parent / "docs" / "batches.md").read_text()

    for call in calls:
        with pytest.raises(TaskControlError) as refused:
            call()
        assert f"| `{refused.value}` |" in page


@pytest.mark.parametrize("event", ["on_success", "on_failure", "on_completion"])
def test_a_callback_that_does_not_exist_is_refused_with_our_sentence(event):
    with pytest.raises(InvalidCall, match=r"tests\.tasks\.tel") as refused:
        taskcontrol.create_batch("b", **{event: "tests.tasks.tel"})
    assert f"{event} of create_batch; nothing was stored" in refused.value.__notes__[0]
    assert not TaskBatch.objects.exists()


def test_a_batch_that_was_given_nothing_but_duplicates_ends():
    taskcontrol.enqueue(tasks.nothing, job_id="j", deduplicate=True)
    taskcontrol.create_batch("b", on_completion=tasks.nothing)
    assert (
        taskcontrol.enqueue(tasks.nothing, job_id="j", deduplicate=True, batch_id="b")
        is None
    )
    settle_batches()
    assert TaskBatch.objects.get(pk="b").ended_at is not None
