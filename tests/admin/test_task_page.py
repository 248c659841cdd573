"""The page of one task: everything about it, masked where it must be, and no mutation."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol.admin import TaskLogAdmin
from taskcontrol.arguments import encode
from taskcontrol.models import (
    QueueState,
    TaskAttempt,
    TaskEvent,
    TaskLog,
    WaitInterval,
    Worker,
)
from taskcontrol.status import Status
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import (
    make_batch,
    make_task,
    make_type,
    make_user,
    make_worker,
    seconds_ago,
)
from tests.models import Paper

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

SCRIPT = "<script>alert('x')</script>"
BIDI = "invoice\u202efdp.exe"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "a.py"\nValueError: no such customer'
)
#: Told by the story above the columns.
TOLD = {"arguments", "result", "error_message", "debug_log", "after", "parent"}
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
        "Created",
        "Queued",
        "Started",
        "Failed",
        "Retried",
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


def test_a_task_that_its_worker_claimed_as_it_was_sent_says_by_whom(boss):
    task = make_task(Status.QUEUED, worker=make_worker(hostname="w@here"))

    page = text_of(boss.get(page_url(task)))

    assert "It was claimed by w@here at" in page
    assert "sent to the broker" not in page
    assert "w@here" in section(page, "Timeline")


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

    assert counts[0] == counts[1] <= 13


def test_the_page_is_free_of_inline_script_and_style(boss):
    task = make_task(Status.STARTED, progress={"count": 1, "total": 2, "description": "d"})

    page = text_of(boss.get(page_url(task)))

    assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))[^>]*>\s*\S", page)
    assert " style=" not in page
    assert ">1 / 2</span>" in page
    assert ">d</span>" in page


def section(page: str, name: str) -> str:
    """Return the part of the page under a heading."""
    return page.split(f"<h2>{name}</h2>")[1].split("</section>", maxsplit=1)[0]


# How far it is


def test_a_bar_tells_how_far_and_how_long_it_still_takes(boss):
    task = make_task(
        Status.STARTED,
        started_at=seconds_ago(60),
        progress={"count": 25, "total": 100, "description": "pages"},
    )

    page = text_of(boss.get(page_url(task)))

    assert 'value="25" max="100"' in page
    assert re.search(r"3 min( \d s)? left", page)


@pytest.mark.parametrize(
    ("said", "shown", "hidden"),
    [
        ({"count": 142, "total": 100}, "142 (expected 100)", "left"),
        ({"count": 0, "total": 100}, "0 / 100", "left"),
        ({"count": 5}, "<progress", "value="),
        ({"message": "still reading"}, "still reading", "value="),
    ],
)
def test_a_bar_without_an_end_promises_none(boss, said, shown, hidden):
    task = make_task(Status.STARTED, progress=said)

    state = (
        text_of(boss.get(page_url(task))).split('class="tc-state"')[1].split("</div>")[0]
    )

    assert shown in state
    assert hidden not in state


# Why it waits, and where the wait went


def test_a_reason_leads_to_the_holders_and_to_what_can_be_changed(boss):
    kind = make_type(concurrency_limit=1, usual_seconds=300)
    worker = make_worker(pool_size=1)
    holder = make_task(Status.STARTED, worker=worker, started_at=seconds_ago(60))
    task = make_task()

    reasons = text_of(boss.get(page_url(task))).split('class="tc-reasons"')[1]
    reasons = reasons.split("</ol>")[0]

    assert "Why is it waiting?" in reasons
    assert reasons.index('data-tc-reason="limit"') < reasons.index("slots")
    assert f'href="{page_url(holder)}"' in reasons
    assert f'href="{page_url(kind)}"' in reasons
    assert "/admin/taskcontrol/worker/" in reasons
    assert re.search(r"the first should be free in about [34] min", reasons)


def test_a_task_that_comes_after_another_tells_when_that_should_be_over(boss):
    make_type("tests.tasks.add", usual_seconds=300)
    first = make_task(Status.STARTED, method="tests.tasks.add", started_at=seconds_ago(60))
    task = make_task(after=first, ready_lane=None)

    page = text_of(boss.get(page_url(task)))

    assert re.search(r"probably <time[^>]*>in [34] min", page)
    assert f'href="{page_url(first)}"' in page.split('class="tc-reasons"')[1]


def test_a_reason_tells_when_it_ends(boss):
    make_worker()
    queue = QueueState.objects.create(
        name="default", paused_at=seconds_ago(5), paused_until=seconds_ago(-3600)
    )
    task = make_task()

    page = text_of(boss.get(page_url(task)))

    assert re.search(r'tc-when"><time[^>]*>in (1 h|59 min)', page)
    assert queue.name in page


def test_a_reason_leads_nowhere_that_the_person_may_not_go(staff):
    make_type(concurrency_limit=1)
    holder = make_task(Status.STARTED, worker=make_worker())
    task = make_task(created_by=staff.user)

    page = text_of(staff.get(page_url(task)))

    assert 'data-tc-reason="limit"' in page
    assert page_url(holder) not in page
    assert "tc-links" not in page


def test_after_the_start_the_page_tells_where_the_wait_went(viewer):
    task = make_task(
        Status.FINISHED,
        created_at=seconds_ago(100),
        queued_at=seconds_ago(10),
        started_at=seconds_ago(10),
    )
    WaitInterval.objects.create(
        scope="limit", key=task.method, from_at=seconds_ago(100), to_at=seconds_ago(40)
    )
    WaitInterval.objects.create(
        scope="queue",
        key="default",
        reason=SCRIPT,
        from_at=seconds_ago(40),
        to_at=seconds_ago(20),
    )

    page = text_of(viewer.get(page_url(task)))
    told = section(page, "Where the wait went")

    assert "limit of its type <strong>1 min</strong>" in told
    assert "<strong>20 s</strong>" in told
    assert "in line <strong>10 s</strong>" in told
    assert SCRIPT not in page
    assert told.count("<rect") == 3


def test_a_task_that_waits_tells_where_its_wait_went_so_far(viewer):
    task = make_task(created_at=seconds_ago(100))

    assert "Where the wait went so far" in text_of(viewer.get(page_url(task)))


def test_a_task_that_hardly_waited_tells_nothing_of_it(viewer):
    task = make_task(Status.FINISHED, created_at=seconds_ago(2.5))

    assert "Where the wait went" not in text_of(viewer.get(page_url(task)))


def test_a_body_that_is_told_to_stop_tells_how_long_it_may_take(operator, conf):
    conf(CANCEL_GRACE=60)
    task = make_task(
        Status.CANCELED,
        occupies=True,
        worker=make_worker(),
        cancel_requested_at=seconds_ago(5),
    )

    page = text_of(operator.get(page_url(task)))

    assert re.search(r"stopped by force within 5\d s", page)
    Worker.objects.update(pool="threads")
    assert "a threads pool cannot force it" in text_of(operator.get(page_url(task)))


# What it belongs to


def test_relations_lead_to_everything_near(boss):
    batch = make_batch(title="Month end")
    paper = Paper.objects.create(title="p")
    parent = make_task(Status.FINISHED, job_name="the parent")
    first = make_task(Status.PENDING, job_name="the first")
    task = make_task(
        Status.FINISHED,
        batch_id=batch.pk,
        parent=parent,
        after=first,
        document_type="tests.Paper",
        document_name=str(paper.pk),
        schedule="nightly",
    )
    child = make_task(parent=task, job_name="a child")
    copy = make_task(parent=task, options={"copy": True}, job_name="a copy")
    follower = make_task(after=task, ready_lane=None, job_name="a follower")

    near = section(text_of(boss.get(page_url(task))), "Belongs to")

    for row in (parent, first, child, copy, follower, batch):
        assert f'href="{page_url(row)}"' in near
    for name in ("enqueued by", "after", "copies", "has enqueued", "waited for by"):
        assert f"<dt>{name}</dt>" in near
    assert "Month end" in near
    assert "nightly" in near
    url = f"/admin/taskcontrol/tasklog/?document_type={task.document_type}&document_name={paper.pk}"
    assert url.replace("&", "&amp;") in near
    assert boss.get(url).status_code == 200
    of_copy = section(text_of(boss.get(page_url(copy))), "Belongs to")
    assert "<dt>retry of</dt>" in of_copy


def test_relations_show_no_task_that_the_person_may_not_see(staff):
    hidden = make_task(job_name="Top secret")
    task = make_task(created_by=staff.user, parent=hidden)
    make_task(parent=task, job_name="Top secret too")
    own = make_task(parent=task, created_by=staff.user, job_name="own")

    page = text_of(staff.get(page_url(task)))

    assert "Top secret" not in page
    assert page_url(own) in page


def test_a_document_without_a_page_is_named_and_no_link(boss):
    task = make_task(document_type="shop.Gone", document_name="INV-7")

    near = section(text_of(boss.get(page_url(task))), "Belongs to")

    assert "shop.Gone INV-7" in near


def test_a_document_leads_to_its_page_for_those_who_may_see_it(boss, viewer):
    user = make_user("ann")
    task = make_task(document_type="auth.User", document_name=str(user.pk))
    url = f"/admin/auth/user/{user.pk}/change/"

    assert url in text_of(boss.get(page_url(task)))
    assert url not in text_of(viewer.get(page_url(task)))


def test_many_children_cost_as_much_as_one(boss):
    task = make_task(Status.FINISHED)
    counts = []
    for number in (1, 30):
        for _ in range(number):
            make_task(parent=task)
        boss.get(page_url(task))
        with CaptureQueriesContext(connection) as queries:
            page = text_of(boss.get(page_url(task)))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 16
    assert "and more" in page


# The buttons that other pages do not have


@pytest.mark.parametrize(
    ("verb", "status", "permission"),
    [
        ("to_front", Status.PENDING, "prioritize_tasklog"),
        ("to_front", Status.PAUSED, "prioritize_tasklog"),
        ("run_again", Status.FINISHED, "retry_tasklog"),
    ],
)
def test_a_button_is_there_and_works_with_its_permission_alone(
    log_in, viewer, verb, status, permission
):
    task = make_task(status)
    client = log_in("able", "view_tasklog", permission)
    url = page_url(task, verb)

    assert url in text_of(client.get(page_url(task)))
    assert url not in text_of(viewer.get(page_url(task)))
    assert viewer.post(url).status_code == 403
    assert client.get(url).status_code == 405
    assert not LogEntry.objects.exists()

    answer = client.post(url, follow=True)

    entry = LogEntry.objects.get(object_id=str(task.pk))
    assert messages_of(answer) == [entry.change_message]
    assert entry.user == client.user
    event = TaskEvent.objects.filter(task=task.pk).get()
    assert event.actor == client.user


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        ("to_front", Status.STARTED),
        ("to_front", Status.FINISHED),
        ("run_again", Status.PENDING),
        ("run_again", Status.FAILED),
    ],
)
def test_a_button_that_does_not_fit_is_absent(boss, verb, status):
    task = make_task(status)

    assert page_url(task, verb) not in text_of(boss.get(page_url(task)))


def test_run_again_makes_a_copy_and_leaves_the_task_as_it_is(boss):
    task = make_task(Status.FINISHED)

    answer = boss.post(page_url(task, "run_again"), follow=True)

    copy = TaskLog.objects.exclude(pk=task.pk).get()
    assert messages_of(answer) == [f"Run again as task {copy.pk}."]
    assert page_url(copy) in text_of(answer)
    assert copy.parent_id == task.pk


def test_a_copy_that_is_refused_is_told(boss):
    task = make_task(Status.FINISHED, method="tests.tasks.not_there")

    answer = boss.post(page_url(task, "run_again"), follow=True)

    assert "not_there" in messages_of(answer)[0]
    assert TaskLog.objects.count() == 1


def test_a_body_that_does_not_stop_is_stopped_by_force_by_who_may_cancel(operator, viewer):
    task = make_task(
        Status.CANCELED, occupies=True, worker=make_worker(), ended_at=seconds_ago(5)
    )
    url = page_url(task, "force_stop")
    assert url in text_of(operator.get(page_url(task)))
    assert url not in text_of(viewer.get(page_url(task)))
    assert viewer.post(url).status_code == 403

    answer = operator.post(url, follow=True)

    assert messages_of(answer) == ["To be stopped by force within a second."]
    assert TaskEvent.objects.get(task=task.pk).actor == operator.user
    assert LogEntry.objects.get().user == operator.user


def test_a_body_that_is_gone_or_was_told_just_now_is_not_forced(operator):
    gone = make_task(Status.CANCELED, worker=make_worker(), ended_at=seconds_ago(5))
    just_now = make_task(
        Status.CANCELED, occupies=True, worker=make_worker(), ended_at=seconds_ago(-60)
    )

    for task in (gone, just_now):
        url = page_url(task, "force_stop")
        assert url not in text_of(operator.get(page_url(task)))
        assert "no body that could be" in messages_of(operator.post(url, follow=True))[0]
    assert not TaskEvent.objects.exists()


def test_the_page_leads_to_queue_and_worker_for_those_who_may_see_them(boss, operator):
    worker = make_worker(hostname="ox@yard")
    QueueState.objects.create(name="long")
    task = make_task(Status.FINISHED, queue="long", worker=worker, pid=4711)
    places = [
        reverse("admin:taskcontrol_queuestate_change", args=["long"]),
        reverse("admin:taskcontrol_worker_change", args=[worker.pk]),
    ]

    page, without = (
        text_of(one.get(page_url(task))).partition("<fieldset")[0]
        for one in (boss, operator)
    )

    assert all(place in page and place not in without for place in places)
    assert ">ox@yard</a>, process 4711" in page
    assert "ox@yard, process 4711" in without
