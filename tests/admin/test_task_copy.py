"""The form that retries a task with edited arguments: who sees it, what it refuses, the copy."""

from __future__ import annotations

import datetime as dt
from html import unescape

import pytest
from django.contrib.admin.models import LogEntry

from taskcontrol.arguments import decode, encode
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.admin.conftest import NONSENSE_IN_JSON, messages_of, page_url, text_of
from tests.factories import make_task, make_type, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

ARGUMENTS = {"value": {"due": dt.date(2026, 1, 31), "who": (1, "ann")}}


@pytest.fixture
def task():
    return make_task(
        Status.FAILED, method="tests.tasks.give_back", arguments=encode(ARGUMENTS)
    )


@pytest.fixture
def editor(log_in):
    """May retry, and see what is masked for others."""
    return log_in("editor", "view_tasklog", "retry_tasklog", "view_sensitive_tasklog")


def form_url(task) -> str:
    return page_url(task, "edit_and_retry")


def test_the_form_is_filled_with_the_arguments_as_a_person_reads_them(editor, task):
    page = unescape(text_of(editor.get(form_url(task))))

    assert '"due": {"$date": "2026-01-31"}' in page
    assert '"$tuple": [' in page


def test_the_page_of_the_task_leads_to_the_form(editor, task):
    assert form_url(task) in text_of(editor.get(page_url(task)))


def test_what_is_sent_becomes_a_copy_that_leads_back(editor, task):
    text = '{"value": {"$date": "2026-02-28"}}'

    answer = editor.post(form_url(task), {"arguments": text}, follow=True)

    copy = TaskLog.objects.exclude(pk=task.pk).get()
    assert decode(copy.arguments) == {"value": dt.date(2026, 2, 28)}
    assert (copy.parent_id, copy.created_by) == (task.pk, editor.user)
    assert answer.redirect_chain[-1][0] == page_url(copy)
    assert messages_of(answer) == [f"This is a copy of task {task.pk}."]
    assert page_url(task) in text_of(answer)
    entry = LogEntry.objects.get(object_id=str(task.pk))
    assert f"as task {copy.pk}" in entry.change_message
    assert set(TaskEvent.objects.values_list("task", flat=True)) == {task.pk, copy.pk}
    task.refresh_from_db()
    assert task.status == Status.FAILED


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "This is no JSON"),
        ("[1]", "object of names and values"),
        ('{"value": {"$date": "soon"}}', "is no date"),
        ('{"valu": 1}', "cannot be called with the arguments valu"),
        ('{"value": "' + "x" * 2_000_000 + '"}', "bytes"),
    ],
)
def test_what_does_not_fit_is_told_and_what_was_typed_stays(editor, task, text, why):
    answer = editor.post(form_url(task), {"arguments": text})

    assert answer.status_code == 422
    page = unescape(answer.content.decode())
    assert why in page
    assert text[:20] in page
    assert TaskLog.objects.count() == 1
    assert not LogEntry.objects.exists()
    assert not TaskEvent.objects.exists()


@pytest.mark.parametrize("nonsense", NONSENSE_IN_JSON)
def test_nonsense_in_json_is_told(editor, task, nonsense):
    answer = editor.post(form_url(task), {"arguments": nonsense})

    assert answer.status_code == 422
    assert answer.context["form"].errors.keys() == {"arguments"}
    assert TaskLog.objects.count() == 1


def test_what_has_not_ended_is_refused(editor):
    task = make_task(method="tests.tasks.give_back")

    assert "disabled" in text_of(editor.get(form_url(task)))
    assert editor.post(form_url(task), {"arguments": "{}"}).status_code == 422
    retried = make_task(Status.FAILED, retry_at=seconds_ago(-60), max_retries=3)
    assert editor.post(form_url(retried), {"arguments": "{}"}).status_code == 422
    assert TaskLog.objects.count() == 2


@pytest.mark.parametrize(
    "permissions",
    [
        ("view_tasklog",),
        ("view_tasklog", "retry_tasklog"),
        ("view_tasklog", "view_sensitive_tasklog"),
        ("view_tasklog", "retry_tasklog", "cancel_tasklog", "enqueue_tasklog"),
    ],
)
def test_without_both_permissions_it_is_absent_and_refused(log_in, task, permissions):
    client = log_in("somebody", *permissions)

    assert form_url(task) not in text_of(client.get(page_url(task)))
    assert client.get(form_url(task)).status_code == 403
    assert client.post(form_url(task), {"arguments": "{}"}).status_code == 403
    assert TaskLog.objects.count() == 1


def test_a_task_that_one_may_not_see_is_not_there(log_in, task):
    client = log_in("blind", "retry_tasklog", "view_sensitive_tasklog")

    assert client.get(form_url(task)).status_code == 404
    assert client.post(form_url(task), {"arguments": "{}"}).status_code == 404
    assert client.get(form_url(task).replace(str(task.pk), "x")).status_code == 404


def test_an_owner_who_may_retry_and_see_edits_the_own_task(log_in):
    make_type("tests.tasks.give_back", owner_may_retry=True)
    client = log_in("owner", "view_sensitive_tasklog")
    task = make_task(Status.FAILED, method="tests.tasks.give_back", created_by=client.user)

    answer = client.post(form_url(task), {"arguments": "{}"}, follow=True)

    assert messages_of(answer) == [f"This is a copy of task {task.pk}."]


def test_the_form_needs_its_token(editor, task):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(editor.user)

    assert strict.post(form_url(task), {"arguments": "{}"}).status_code == 403


def test_hostile_arguments_are_shown_as_text(editor):
    hostile = "</textarea><script>alert(1)</script>"
    task = make_task(Status.FAILED, job_name=hostile, arguments={"x": hostile})

    assert hostile not in text_of(editor.get(form_url(task)))
