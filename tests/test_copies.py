"""Copies of ended tasks: what they take over, who may make them, where they lead back to."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

import taskcontrol
from taskcontrol.copies import run_again
from taskcontrol.exceptions import InvalidCall, InvalidTransition, NotPermitted
from taskcontrol.models import TaskEvent, TaskLog, TaskType
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_type, make_user, seconds_ago
from tests.models import Paper

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def ended(status=Status.FINISHED, **call) -> TaskLog:
    """Return an enqueued task as if it had ended."""
    usual: dict[str, Any] = {} if {"method", "document_type"} & call.keys() else {"left": 1}
    usual |= {} if "document_action" in call else {"method": tasks.add}
    task = taskcontrol.enqueue(**{**usual, **call})
    columns = {
        "status": status,
        "attempt": 1,
        "ready_lane": None,
        "queued_at": seconds_ago(3),
        "started_at": seconds_ago(2),
        "ended_at": seconds_ago(1),
    }
    TaskLog.objects.filter(pk=task.pk).update(**columns)
    task.refresh_from_db()
    return task


def test_a_copy_takes_over_what_the_call_said_and_leads_back():
    first = ended(
        queue="long",
        timeout=77,
        max_retries=3,
        retry_delay=5,
        job_name="Sum",
        priority=4,
        event="sums",
        job_id="sum-1",
        right=dt.timedelta(hours=1).seconds,
        on_success="tests.tasks.nothing",
        retry_on=ValueError,
        backoff=True,
        batch_id="b",
    )

    copy = run_again(first)

    assert copy.pk != first.pk
    assert (copy.status, copy.attempt) == (Status.PENDING, 0)
    same = ["method", "queue", "timeout", "max_retries", "retry_delay", "job_name"]
    same += ["priority", "event", "job_id", "arguments", "lane", "heard"]
    for name in same:
        assert getattr(copy, name) == getattr(first, name), name
    assert copy.options == {**first.options, "copy": True}
    assert copy.parent_id == first.pk
    assert copy.batch_id is None
    stored = TaskLog.objects.get(pk=copy.pk)
    assert (stored.parent_id, stored.options["copy"]) == (first.pk, True)


def test_both_tell_of_each_other_and_by_whom():
    ann = make_user("ann", "retry_tasklog")
    first = ended()

    copy = run_again(first, user=ann)

    told = TaskEvent.objects.order_by("id").values_list("task", "kind", "actor", "detail")
    assert list(told) == [
        (first.pk, "copied", ann.pk, f"as task {copy.pk}"),
        (copy.pk, "copied", ann.pk, f"from task {first.pk}"),
    ]
    assert copy.created_by == ann


def test_without_a_person_it_runs_as_the_creator_of_the_first():
    ann = make_user()
    assert run_again(ended(created_by=ann).pk).created_by == ann


def test_typed_arguments_come_over_with_their_types_and_can_be_changed():
    first = ended(method=tasks.give_back, value=(dt.date(2026, 1, 31), {1}))

    assert run_again(first).arguments == first.arguments
    assert run_again(first, arguments={"value": 5}).arguments == {"value": 5}
    assert run_again(first, arguments={}).arguments == {}


def test_arguments_are_checked_as_at_every_call():
    first = ended()

    with pytest.raises(InvalidCall, match="cannot be called with"):
        run_again(first, arguments={"lft": 1})
    with pytest.raises(InvalidCall, match="its type is builtins"):
        run_again(first, arguments={"left": object()})
    assert TaskLog.objects.count() == 1
    assert not TaskEvent.objects.exists()


def test_an_argument_may_have_the_name_of_an_option():
    first = ended(method=tasks.takes_job_id, arguments={"job_id": "x"})

    assert run_again(first).arguments == {"job_id": "x"}


@pytest.mark.parametrize(
    "status", [Status.PENDING, Status.PAUSED, Status.QUEUED, Status.STARTED]
)
def test_what_has_not_ended_is_not_copied(status):
    with pytest.raises(InvalidTransition, match="run again"):
        run_again(make_task(status))


def test_what_will_be_retried_by_itself_is_not_copied():
    task = make_task(Status.FAILED, retry_at=seconds_ago(-60), max_retries=3)

    with pytest.raises(InvalidCall, match="cancel it before"):
        run_again(task)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED])
def test_failed_and_canceled_ones_are_copied_too(status):
    assert run_again(ended(status)).status == Status.PENDING


def test_a_key_that_another_holds_is_told():
    first = ended(job_id="only", deduplicate=True)
    assert run_again(first).job_id == "only"

    with pytest.raises(InvalidCall, match="another task with its key 'only'"):
        run_again(first)


def test_an_action_on_a_document_is_copied_with_its_document():
    paper = Paper.objects.create()
    first = ended(document_type=Paper, document_name=paper.pk, document_action="submit")

    copy = run_again(first)
    assert copy.document_name == str(paper.pk)
    assert copy.method == first.method


def test_without_the_permission_to_retry_it_is_refused():
    first = ended()

    with pytest.raises(NotPermitted, match="retry_tasklog"):
        run_again(first, user=make_user())
    assert TaskLog.objects.count() == 1


def test_others_arguments_need_the_permission_to_see_them_too():
    first = ended()

    with pytest.raises(NotPermitted, match="view_sensitive_tasklog"):
        run_again(first, arguments={"left": 2}, user=make_user("a", "retry_tasklog"))
    ann = make_user("ann", "retry_tasklog", "view_sensitive_tasklog")
    assert run_again(first, arguments={"left": 2}, user=ann).arguments == {"left": 2}


def test_an_owner_who_may_retry_may_run_it_again():
    ann = make_user()
    make_type("tests.tasks.add", owner_may_retry=True)
    assert run_again(ended(created_by=ann), user=ann).created_by == ann

    TaskType.objects.update(owner_may_retry=False)
    with pytest.raises(NotPermitted):
        run_again(ended(created_by=ann), user=ann)


def test_arguments_of_another_version_are_told():
    task = make_task(Status.FINISHED, arguments={"x": {"tc": ["hologram", 1]}})

    with pytest.raises(InvalidCall, match="cannot be read here"):
        run_again(task)
