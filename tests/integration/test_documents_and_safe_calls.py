"""Actions on documents, what documents are told, and safe calls, with a real worker."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser, Permission
from django.db import transaction

import taskcontrol
from taskcontrol.exceptions import DocumentBusy
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_user
from tests.integration.watching import all_ended, ended, has_status
from tests.models import Paper
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def told(record, task):
    """Return the changes that the document was told of, each once, in the order of telling."""
    lines = [line for line in record.lines("told") if line["task"] == task.pk]
    return list(dict.fromkeys((line["rev"], line["status"]) for line in lines))


def test_a_worker_acts_on_a_document_and_tells_it_each_change(worker, record):
    paper = Paper.objects.create(title="lease")

    with transaction.atomic():
        task = paper.submit(note="twice", created_by=make_user("ann"))

    assert ended(task).result == "submitted lease twice"
    paper.refresh_from_db()
    assert paper.state == "submitted"
    eventually(lambda: len(told(record, task)) == 3)
    assert [status for _, status in told(record, task)] == ["Queued", "Started", "Finished"]


def test_a_document_hears_of_failure_and_retry(worker, record):
    task = taskcontrol.enqueue_doc(Paper.objects.create(title="p"), "burn", max_retries=1)

    assert ended(task).status == Status.FAILED

    eventually(lambda: len(told(record, task)) == 7, why=lambda: str(told(record, task)))
    assert [status for _, status in told(record, task)] == [
        "Queued",
        "Started",
        "Failed",
        "Pending",
        "Queued",
        "Started",
        "Failed",
    ]


@pytest.mark.parametrize("title", ["angry", "rude"])
def test_a_document_that_cannot_bear_the_news_harms_nothing(worker, title):
    tasks_of_it = [
        taskcontrol.enqueue_doc(Paper.objects.create(title=title), "stamp", mark="x")
        for _ in range(5)
    ]

    assert {now.status for now in all_ended(tasks_of_it)} == {Status.FINISHED}
    assert ended(taskcontrol.enqueue(tasks.give_back, value=1)).result == 1


def test_a_document_that_is_gone_fails_its_task_once(worker):
    paper = Paper.objects.create(title="lease")
    task = taskcontrol.enqueue_doc(paper, "stamp", mark="x", paused=True, max_retries=5)
    paper.delete()

    taskcontrol.resume(task)

    now = ended(task)
    assert (now.status, now.attempt) == (Status.FAILED, 1)
    assert "DocumentNotFound: There is no tests.Paper" in now.error_message


@pytest.mark.only_on("postgresql", "mysql")
def test_an_atomic_action_that_fails_leaves_the_document_as_it_was(worker):
    paper = Paper.objects.create(title="lease")

    failed = ended(taskcontrol.enqueue_doc(paper, "spoil", atomic=True))

    assert failed.status == Status.FAILED
    paper.refresh_from_db()
    assert paper.state == "draft"


def test_one_document_is_acted_upon_once_at_a_time(worker):
    paper = Paper.objects.create(title="lease")
    first = paper.submit(paused=True)
    with pytest.raises(DocumentBusy):
        paper.submit()

    taskcontrol.resume(first)

    ended(first)
    assert ended(paper.submit()).status == Status.FINISHED


def test_safe_calls_run_as_their_creator_and_with_his_rights(worker):
    ann, bob = make_user("ann"), make_user("bob")
    for user in (ann, bob):
        user.user_permissions.add(Permission.objects.get(codename="view_paper"))
    granted = taskcontrol.enqueue_safe(
        "greet the user", created_by=type(ann).objects.get(pk=ann.pk), paused=True
    )
    lost = taskcontrol.enqueue_safe(
        "greet the user", created_by=type(bob).objects.get(pk=bob.pk), paused=True
    )
    bob.user_permissions.clear()

    for task in (granted, lost):
        taskcontrol.resume(task)

    assert ended(granted).result == "hello ann"
    assert ended(lost).ended_reason.startswith("discarded: bob may not call")


def test_a_worker_refuses_what_is_not_on_its_whitelist(worker):
    task = taskcontrol.enqueue(tasks.nothing, paused=True)
    TaskLog.objects.filter(pk=task.pk).update(call_whitelisted_function=True)

    taskcontrol.resume(task)

    now = has_status(task, Status.FAILED)
    assert "'tests.tasks.nothing' may not be called safely" in now.error_message


def test_a_visitors_tasks_and_threads_are_never_the_systems_p8(worker):
    visitor = AnonymousUser()
    first = taskcontrol.enqueue_safe(tasks.pass_on, created_by=visitor)
    thread = taskcontrol.enqueue_safe(tasks.thread_that_greets, created_by=visitor)

    second = TaskLog.objects.get(pk=int(ended(first).result))

    assert second.runs_as.is_anonymous
    assert "may not call tests.tasks.greet" in ended(thread).result
