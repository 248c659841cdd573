"""The screens of workers, queues and the dispatcher."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from taskcontrol.conf import known_queues
from taskcontrol.models import DispatcherState, QueueState, WaitInterval
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state, toggle_dispatcher
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

FRONT = "/admin/taskcontrol/"
WORKERS = "/admin/taskcontrol/worker/"
QUEUES = "/admin/taskcontrol/queuestate/"
DISPATCHER = "/admin/taskcontrol/dispatcherstate/"


@pytest.fixture
def state(db):
    """The one row of the dispatcher."""
    return dispatcher_state()


@pytest.fixture
def conductor(log_in):
    """May suspend and resume the dispatcher and nothing else."""
    return log_in("conductor", "control_dispatcher")


# Workers


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({}, "live"),
        ({"last_seen_at": seconds_ago(60)}, "silent"),
        ({"leaving_at": seconds_ago(1)}, "leaving"),
        ({"left_at": seconds_ago(1)}, "left"),
        ({"lost_at": seconds_ago(1)}, "lost"),
        ({"consuming": False}, "not consuming"),
    ],
)
def test_each_state_of_a_worker_is_told(log_in, columns, word):
    client = log_in("w", "view_worker")
    worker = make_worker(hostname="w@here", memory_kb=2048, **columns)

    for url in (WORKERS, page_url(worker)):
        assert f">{word}</span>" in text_of(client.get(url))


def test_a_worker_shows_its_slots_its_memory_and_what_it_runs(boss):
    worker = make_worker(pool_size=4, memory_kb=10240, children=[{"memory_kb": 20480}])
    task = make_task(Status.STARTED, worker=worker, job_name="Busy")
    make_task(Status.CANCELED, worker=worker, occupies=True)
    make_task(Status.QUEUED)
    make_task(Status.FINISHED, worker=worker, job_name="Idle")

    listed, page = text_of(boss.get(WORKERS)), text_of(boss.get(page_url(worker)))

    for text in (listed, page):
        assert "2 / 4" in text
        assert "30 MB" in text
    assert page_url(task) in page
    assert "Idle" not in page


def test_the_tasks_of_a_worker_are_shown_to_those_who_may_see_tasks(log_in):
    worker = make_worker()
    make_task(Status.STARTED, worker=worker, job_name="Busy")

    page = text_of(log_in("w", "view_worker").get(page_url(worker)))

    assert "1 / 2" in page
    assert "Busy" not in page


def test_a_hostile_worker_name_is_shown_as_text(boss):
    worker = make_worker(["<script>q"], hostname="<script>\u202e", versions={"<b>": "<i>"})

    for url in (WORKERS, page_url(worker)):
        page = text_of(boss.get(url))
        assert "<script>q" not in page
        assert "<script>\u202e" not in page
        assert "<b>" not in page


def test_nobody_adds_changes_or_deletes_a_worker(boss):
    worker = make_worker()

    assert boss.get(f"{WORKERS}add/").status_code == 403
    assert boss.post(page_url(worker), {"pool_size": 9}).status_code == 403
    assert boss.post(page_url(worker, "delete"), {"post": "yes"}).status_code == 403


# Queues


def test_every_known_queue_is_listed_before_anybody_paused_it(boss):
    page = text_of(boss.get(QUEUES))

    for name in known_queues():
        assert f"{name}</a>" in page
    assert page.count(">Open</span>") == len(known_queues()) == QueueState.objects.count()


def test_the_list_shows_what_waits_runs_and_who_serves(boss):
    make_worker(["short"], pool_size=3)
    make_task(queue="short", created_at=seconds_ago(3700))
    make_task(Status.STARTED, queue="short")
    make_task(Status.QUEUED, queue="short")
    make_task(queue="long")

    page = text_of(boss.get(QUEUES))

    rows = {
        row.split('field-label">')[1]: row
        for row in page.split("<tr>")
        if "field-label" in row
    }
    short = next(row for row in rows.values() if ">short<" in row)
    long = next(row for row in rows.values() if ">long<" in row)
    assert "1 · 1" in short
    assert "1 h 1 min" in short
    assert "1 with 3 slots" in short
    assert ">nobody</span>" in long


def test_a_queue_is_paused_and_resumed_with_the_permission(log_in):
    client = log_in("q", "control_queue")
    text_of(client.get(QUEUES))
    queue = QueueState.objects.get(name="long")

    client.post(page_url(queue, "pause"), {"reason": "disk full"})

    queue.refresh_from_db()
    assert (queue.paused_by, queue.paused_reason) == (client.user, "disk full")
    interval = WaitInterval.objects.get()
    assert (interval.scope, interval.key, interval.to_at) == ("queue", "long", None)
    page = text_of(client.get(page_url(queue)))
    assert "disk full" in page
    response = client.post(page_url(queue, "resume"), follow=True)
    assert messages_of(response) == ["Resumed."]
    assert WaitInterval.objects.get().to_at is not None
    again = client.post(page_url(queue, "resume"), follow=True)
    assert messages_of(again) == ["Nothing was to be done."]
    assert LogEntry.objects.count() == 2


def test_without_the_permission_a_queue_is_looked_at(log_in):
    client = log_in("q", "view_queuestate")
    text_of(client.get(QUEUES))
    queue = QueueState.objects.get(name="long")

    page = text_of(client.get(page_url(queue)))

    for button in ("pause", "resume"):
        assert page_url(queue, button) not in page
        assert client.post(page_url(queue, button)).status_code == 403
    assert log_in("nobody").get(QUEUES).status_code == 403


# The dispatcher


def test_the_list_of_the_dispatcher_is_its_page(boss, state):
    assert boss.get(DISPATCHER).url == page_url(state)
    assert "Running</span>" in text_of(boss.get(page_url(state)))


@pytest.mark.parametrize("where", [FRONT, DISPATCHER])
def test_the_dispatcher_is_suspended_and_resumed_with_reason_and_trace(
    conductor, state, where
):
    assert page_url(state, "suspend") in text_of(conductor.get(where, follow=True))

    response = conductor.post(
        page_url(state, "suspend"), {"reason": "maintenance", "next": FRONT}, follow=True
    )

    assert response.redirect_chain == [(FRONT, 302)]
    state.refresh_from_db()
    assert (state.suspended, state.suspended_by) == (True, conductor.user)
    assert "maintenance" in text_of(response)
    assert page_url(state, "resume") in text_of(conductor.get(where, follow=True))
    conductor.post(page_url(state, "resume"), follow=True)
    state.refresh_from_db()
    assert state.suspended is False
    told = LogEntry.objects.order_by("id").values_list("change_message", flat=True)
    assert list(told) == [
        "The dispatcher was suspended: maintenance.",
        "The dispatcher was resumed.",
    ]


def test_suspending_again_changes_and_records_nothing(conductor, state):
    toggle_dispatcher(False, reason="first")

    response = conductor.post(page_url(state, "suspend"), {"reason": "second"}, follow=True)

    state.refresh_from_db()
    assert (state.suspended_reason, state.suspended_by) == ("first", None)
    assert messages_of(response) == ["Nothing was to be done."]
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("role", ["staff", "viewer", "operator"])
def test_without_the_permission_there_is_no_switch(request, state, role):
    client = request.getfixturevalue(role)

    assert page_url(state, "suspend") not in text_of(client.get(FRONT))
    for button in ("suspend", "resume"):
        assert client.post(page_url(state, button)).status_code == 403
        assert client.get(page_url(state, button)).status_code == 405

    assert DispatcherState.objects.get().suspended is False


def test_while_suspended_every_page_says_so(boss, state):
    toggle_dispatcher(False, user=boss.user, reason="<b>maintenance</b>")
    rows = [make_task(), make_type(), make_worker()]
    pages = [FRONT, WORKERS, QUEUES, DISPATCHER, "/admin/taskcontrol/tasklog/"]
    pages += [page_url(row) for row in rows]
    pages += [page_url(rows[0], "history"), page_url(rows[1], "delete")]

    for url in pages:
        page = text_of(boss.get(url, follow=True))
        banner = page.split('class="tc-banner"')[1].split("</div>")[0]
        assert "&lt;b&gt;maintenance&lt;/b&gt;" in banner, url
        assert "boss" in banner
    toggle_dispatcher(True)
    assert "tc-banner" not in text_of(boss.get(FRONT))


def test_the_page_that_asks_carries_the_banner_too(boss, state):
    toggle_dispatcher(False)
    form = {"action": "cancel_tasks", "_selected_action": [make_task().pk], "index": 0}

    assert "tc-banner" in text_of(boss.post("/admin/taskcontrol/tasklog/", form))


def test_who_suspended_it_may_have_been_deleted(boss, state):
    user = make_user()
    DispatcherState.objects.update(suspended=True, suspended_by=user)
    User.objects.filter(pk=user.pk).delete()

    for url in (FRONT, page_url(state)):
        assert f"user {user.pk} (deleted)" in text_of(boss.get(url))
