"""The page of one task: everything about it, masked where it must be, and no mutation."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol.admin import TaskLogAdmin
from taskcontrol.arguments import encode
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog, Worker
from taskcontrol.status import Status
from tests.admin.conftest import page_url, text_of
from tests.factories import make_task, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

SCRIPT = "<script>alert('x')</script>"
BIDI = "invoice\u202efdp.exe"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "a.py"\nValueError: no such customer'
)
#: Told by the story above the columns.
TOLD = {"arguments", "result", "error_message", "debug_log"}
#: Means nothing to a person.
UNTOLD = {"options"}


@pytest.mark.parametrize("role", ["boss", "operator", "viewer"])
@pytest.mark.parametrize("status", Status)
def test_the_page_renders_for_every_role_and_status(request, role, status):
    client = request.getfixturevalue(role)
    task = make_task(status, job_name="A task")

    page = text_of(client.get(page_url(task)))

    assert "<h1>A task</h1>" in page
    assert f'tc-{status.lower()}">{status}</span>' in page
    assert 'name="_save"' not in page


def test_staff_sees_the_own_task_and_no_other(staff):
    assert staff.get(page_url(make_task(created_by=staff.user))).status_code == 200

    for other in (make_task(), make_task(created_by=make_user())):
        assert staff.get(page_url(other), follow=True).redirect_chain[-1][0] == "/admin/"
        assert staff.get(page_url(other, "history")).status_code in {302, 403}


def test_a_task_that_is_not_there_is_told_and_no_error(viewer):
    for key in ("999999", "abc", "9" * 30, "%00"):
        url = f"/admin/taskcontrol/tasklog/{key}/change/"
        assert viewer.get(url, follow=True).status_code in {200, 404}


def test_nothing_can_be_changed_by_posting_the_page(boss):
    task = make_task(job_name="before")

    assert boss.post(page_url(task), {"job_name": "after"}).status_code == 403
    task.refresh_from_db()
    assert task.job_name == "before"


def test_every_column_is_shown_or_told_in_the_story():
    shown = set()
    for _, options in TaskLogAdmin.fieldsets:
        for line in options["fields"]:
            shown |= {line} if isinstance(line, str) else set(line)
    columns = {field.name for field in TaskLog._meta.concrete_fields}

    assert shown | TOLD | UNTOLD == columns


# The story


def test_a_failure_shows_its_last_line_first_and_the_traceback_when_asked(boss):
    task = make_task(Status.FAILED, error_message=TRACEBACK)

    page = text_of(boss.get(page_url(task)))

    failure = page.split('class="tc-failure"')[1]
    assert failure.index("<p>ValueError: no such customer</p>") < failure.index("<details>")
    assert "File &quot;a.py&quot;" in failure


def test_without_the_permission_secrets_tracebacks_and_logs_stay_hidden(viewer):
    task = make_task(
        Status.FAILED,
        arguments={"customer": "C-17", "api_key": "sk-123", "in": [{"password": "pw-1"}]},
        result={"token": "tok-1", "sum": 42, "blob": encode(b"bytes-1")},
        error_message=TRACEBACK,
        debug_log="log-1",
        # A failed task has no result, but a row may say anything.
    )
    TaskAttempt.objects.create(
        task=task, attempt=1, status="Failed", error_message=TRACEBACK, debug_log="log-2"
    )

    page = text_of(viewer.get(page_url(task)))

    assert "C-17" in page
    assert "42" in page
    assert page.count("<p>ValueError: no such customer</p>") == 2
    for hidden in ("sk-123", "pw-1", "tok-1", "bytes-1", "log-1", "log-2", "a.py"):
        assert hidden not in page
    assert "Secrets are masked" in page


def test_the_owner_without_the_permission_sees_the_own_arguments_masked(staff):
    task = make_task(created_by=staff.user, arguments={"api_key": "sk-123", "n": 17})

    page = text_of(staff.get(page_url(task)))

    assert "sk-123" not in page
    assert "&quot;n&quot;: 17" in page


def test_with_the_permission_everything_is_shown_as_it_came_in(log_in):
    insider = log_in("insider", "view_tasklog", "view_sensitive_tasklog")
    arguments = encode({"api_key": "sk-123", "due": timedelta(hours=1), "s": {1, 2}})
    task = make_task(Status.FINISHED, arguments=arguments, debug_log="log-1", result=None)

    page = text_of(insider.get(page_url(task)))

    for shown in ("sk-123", "1:00:00", "{1, 2}", "log-1"):
        assert shown in page
    assert "Secrets are masked" not in page


def test_arguments_of_another_version_are_shown_as_they_are_stored(boss):
    task = make_task(arguments={"x": {"tc": ["hologram", 1]}})

    assert "hologram" in text_of(boss.get(page_url(task)))


def test_attempts_show_their_error_and_the_timeline_tells_all_in_order(boss):
    worker = make_worker(hostname="w@here")
    task = make_task(
        Status.FINISHED,
        attempt=2,
        created_at=seconds_ago(90),
        queued_at=seconds_ago(30),
        started_at=seconds_ago(29),
        ended_at=seconds_ago(28),
        worker=worker,
        created_by=boss.user,
    )
    TaskAttempt.objects.create(
        task=task,
        attempt=1,
        status="Failed",
        worker=worker,
        queued_at=seconds_ago(80),
        started_at=seconds_ago(79),
        ended_at=seconds_ago(78),
        error_message=TRACEBACK,
    )
    event = TaskEvent.objects.create(
        task=task, kind="retried", actor=boss.user, new="Pending", detail="first in line"
    )
    TaskEvent.objects.filter(pk=event.pk).update(at=seconds_ago(50))

    page = text_of(boss.get(page_url(task)))

    timeline = page.split('class="tc-timeline"')[1].split("</ol>")[0]
    words = re.findall(r"tc-badge[^>]*>([^<]+)<", timeline)
    assert words == [
        "created",
        "Queued",
        "Started",
        "Failed",
        "retried",
        "Queued",
        "Started",
        "Finished",
    ]
    assert "first in line" in timeline
    assert "w@here" in timeline
    assert "ValueError: no such customer" in page.split("Earlier attempts")[1]


def test_a_waiting_task_says_why_it_waits_and_an_ended_one_does_not(viewer):
    waiting = make_task(Status.PAUSED)
    ended = make_task(Status.FINISHED)

    assert "waits until it is resumed" in text_of(viewer.get(page_url(waiting)))
    assert "tc-reasons" not in text_of(viewer.get(page_url(ended)))


def test_weak_keys_that_point_nowhere_break_nothing(boss):
    user, worker = make_user("gone"), make_worker()
    task = make_task(
        Status.CANCELED,
        created_by=user,
        canceled_by=user,
        worker=worker,
        after_id=987654,
        batch_id="no-such-batch",
    )
    TaskAttempt.objects.create(task=task, attempt=1, status="Failed", worker=worker)
    TaskEvent.objects.create(task=task, kind="canceled", actor=user)
    Worker.objects.all().delete()
    User.objects.filter(pk=user.pk).delete()

    page = text_of(boss.get(page_url(task)))

    assert f"user {user.pk} (deleted)" in page
    assert f"worker {worker.pk} (gone)" in page


def test_hostile_text_is_shown_as_text(boss):
    text = f"{SCRIPT}{BIDI}"
    task = make_task(
        Status.FAILED,
        job_name=text,
        error_message=text,
        debug_log=text,
        ended_reason=text,
        document_name=text,
        batch_id=text,
        arguments={text: text},
        result={"x": text},
    )
    TaskAttempt.objects.create(
        task=task, attempt=1, status="Failed", error_message=text, ended_reason=text
    )
    TaskEvent.objects.create(task=task, kind="paused", detail=text)

    page = text_of(boss.get(page_url(task)))

    assert SCRIPT not in page
    story = page.split("<h1>")[1].split('id="tasklog_form"')[0]
    assert "\u202e" not in story
    assert r"invoice\u202efdp.exe" in story


@pytest.mark.only_on("sqlite")
def test_a_nul_byte_that_only_sqlite_stores_is_written_out(boss):
    task = make_task(Status.FAILED, error_message="a\0b")

    page = text_of(boss.get(page_url(task)))

    assert r"a\u0000b" in page
    assert "\0" not in page


def test_many_attempts_and_events_cost_as_much_as_one(boss):
    task = make_task(Status.FINISHED, attempt=99, worker=make_worker())
    counts = []
    for number in (1, 30):
        for n in range(number):
            TaskAttempt.objects.create(
                task=task, attempt=number + n, status="Failed", worker=make_worker()
            )
            TaskEvent.objects.create(task=task, kind="retried", actor=make_user())
        boss.get(page_url(task))
        with CaptureQueriesContext(connection) as queries:
            text_of(boss.get(page_url(task)))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 12


def test_the_page_is_free_of_inline_script_and_style(boss):
    task = make_task(Status.STARTED, progress={"count": 1, "total": 2, "description": "d"})

    page = text_of(boss.get(page_url(task)))

    assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))[^>]*>\s*\S", page)
    assert " style=" not in page
    assert "1 / 2 d" in page
