"""The page of what runs now: all that matters of each body, at a cost that does not grow."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol.screens import running
from taskcontrol.status import Status
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.fixture
def url(db):
    """The address of the page."""
    return reverse("admin:taskcontrol_running")


def bodies(response):
    text_of(response)
    return [body for bench in response.context["benches"] for body in bench.bodies]


def test_each_body_is_told_with_all_that_matters(boss, url):
    ann = make_user("ann")
    kind = make_type("app.index", usual_seconds=600.0)
    worker = make_worker(["long"], 3, children=[{"pid": 77, "memory_kb": 300 * 1024}])
    task = make_task(
        Status.STARTED,
        method="app.index",
        job_name="Index the library",
        arguments={"deep": True, "path": "/books"},
        document_type="app.Shelf",
        document_name="12",
        created_by=ann,
        worker=worker,
        pid=77,
        started_at=seconds_ago(3700),
        progress={"count": 3, "total": 10, "description": "shelf 3"},
    )

    page = text_of(boss.get(url))

    for told in (
        page_url(task),
        "Index the library",
        page_url(kind),
        "deep=True, path=&#x27;/books&#x27;",
        "app.Shelf 12",
        "ann",
        "1 h 1 min",
        "usually 10 min",
        "6 times the usual",
        '<progress class="tc-progress" value="3" max="10"',
        "3 / 10 shelf 3",
        "300 MB",
        page_url(worker),
        "1 of 3 slots taken; takes long",
        page_url(task, "cancel"),
    ):
        assert told in page, told


def test_a_run_as_long_as_usual_does_not_stand_out(boss, url):
    make_type("app.index", usual_seconds=60.0)
    make_type("app.tick", usual_seconds=0.1)
    make_task(Status.STARTED, method="app.index", started_at=seconds_ago(90))
    make_task(Status.STARTED, method="app.tick", started_at=seconds_ago(4))

    assert [body["unusual"] for body in bodies(boss.get(url))] == ["", ""]


def test_a_body_that_is_still_to_go_is_shown_as_stopping(boss, url):
    worker = make_worker()
    task = make_task(
        Status.CANCELED, worker=worker, occupies=True, cancel_requested_at=seconds_ago(400)
    )
    make_task(Status.QUEUED)
    make_task(Status.FINISHED, worker=worker)

    response = boss.get(url)

    (body,) = bodies(response)
    assert body["task"] == task
    page = text_of(response)
    assert ">stopping</span>" in page
    assert "6 min ago" in page
    assert page_url(task, "cancel") not in page
    assert "1 sent, not begun" in page


def test_what_a_worker_has_claimed_takes_its_slots_and_was_not_sent(boss, url):
    worker = make_worker(["long"], pool_size=2)
    make_task(Status.QUEUED, worker=worker)
    make_task(Status.QUEUED)

    page = text_of(boss.get(url))

    assert "1 of 2 slots taken; takes long" in page
    assert "1 sent, not begun" in page
    assert "1 claimed by its worker" in page
    assert "1 task is claimed for the children of this worker" in page
    assert "Does nothing now." not in page


def test_claimed_tasks_beyond_the_slots_wait_for_them(boss, url):
    worker = make_worker(["long"], pool_size=2)
    make_task(Status.STARTED, worker=worker)
    for _ in range(3):
        make_task(Status.QUEUED, worker=worker)

    page = text_of(boss.get(url))

    assert "2 of 2 slots taken; takes long" in page
    assert "3 claimed by their workers" in page


def test_workers_without_work_are_there_and_gone_ones_are_not(boss, url):
    make_worker(hostname="idle@here")
    make_worker(hostname="gone@here", lost_at=seconds_ago(1))

    page = text_of(boss.get(url))

    assert "Does nothing now." in page
    assert "idle@here" in page
    assert "gone@here" not in page


def test_what_runs_at_once_or_under_a_worker_that_is_gone_is_there(boss, url):
    make_task(Status.STARTED, worker_id=None, job_name="In a request")
    make_task(Status.STARTED, worker_id=4711, job_name="Orphan")

    page = text_of(boss.get(url))

    assert "At once, outside of workers" in page
    assert "Worker 4711 (gone)" in page


def test_without_anything_the_page_says_what_to_start(boss, staff, url):
    assert "manage.py taskcontrol worker" in text_of(boss.get(url))
    assert "None of your tasks runs now." in text_of(staff.get(url))


@pytest.mark.parametrize("page", ["", "worker/"])
def test_the_overview_and_the_workers_lead_to_it(boss, url, page):
    assert f'href="{url}"' in text_of(boss.get(f"/admin/taskcontrol/{page}"))


# Arguments


def test_secrets_in_arguments_are_for_those_who_may_see_them(viewer, boss, url):
    given = {"user": "ann", "password": "s3cret", "the_nested": {"api_token": "t0ken"}}
    make_task(Status.STARTED, arguments=given)

    masked, full = text_of(viewer.get(url)), text_of(boss.get(url))

    assert "user=&#x27;ann&#x27;, password=********" in masked
    assert "s3cret" not in masked
    assert "t0ken" not in masked
    assert "s3cret" in full


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, ""),
        ({"when": {"tc": ["date", "2026-01-02"]}}, "when=datetime.date(2026, 1, 2)"),
        ({"broken": {"tc": ["no such", 1]}}, "broken={'tc': ['no such', 1]}"),
        ({"long": "x" * 500}, f"long='{'x' * 113}…"),
        ({"hidden": "a\u202eb"}, "hidden='a\\u202eb'"),
        ({"huge": "x" * 5000}, "arguments of 5,0"),
        (["a", 1], "['a', 1]"),
    ],
)
def test_arguments_stand_in_one_line(boss, url, given, told):
    make_task(Status.STARTED, arguments=given)

    (body,) = bodies(boss.get(url))

    assert body["arguments"].startswith(told) if told else body["arguments"] == ""


# Who sees and does what


def test_staff_sees_the_own_bodies_and_no_other_slots(staff, url):
    worker = make_worker(pool_size=5)
    mine = make_task(Status.STARTED, worker=worker, created_by=staff.user)
    make_task(Status.STARTED, worker=worker)
    make_worker(hostname="idle@here")

    response = staff.get(url)

    assert [body["task"] for body in bodies(response)] == [mine]
    page = text_of(response)
    assert "slots taken" not in page
    assert "idle@here" not in page
    assert page_url(worker) not in page


def test_staff_sees_what_is_claimed_of_the_own_tasks_alone(staff, url):
    worker = make_worker()
    make_task(Status.QUEUED, worker=worker, created_by=staff.user)
    make_task(Status.QUEUED, worker=worker)

    page = text_of(staff.get(url))

    assert "1 claimed by its worker" in page
    assert "1 task is claimed for the children of this worker" in page
    assert "slots taken" not in page


def test_nobody_from_outside_sees_it(client, url):
    assert client.get(url).status_code == 302
    client.force_login(make_user("visitor"))
    assert client.get(url).status_code == 302


def test_a_body_is_canceled_with_a_reason_and_the_page_comes_back(operator, url):
    task = make_task(Status.STARTED, worker=make_worker())
    assert page_url(task, "cancel") in text_of(operator.get(url))

    response = operator.post(
        page_url(task, "cancel"), {"reason": "too slow", "next": url}, follow=True
    )

    assert response.redirect_chain == [(url, 302)]
    assert messages_of(response) == ["Canceled: too slow"]
    task.refresh_from_db()
    assert (task.status, task.canceled_by) == (Status.CANCELED, operator.user)


@pytest.mark.parametrize(("right", "allowed"), [(True, 1), (False, 0)])
def test_owners_cancel_as_their_type_says(staff, url, right, allowed):
    make_type("app.index", owner_may_cancel=right)
    make_task(Status.STARTED, method="app.index", created_by=staff.user)

    assert text_of(staff.get(url)).count("Cancel this task") == allowed


def test_who_may_only_look_cancels_nothing(viewer, url):
    task = make_task(Status.STARTED)

    assert page_url(task, "cancel") not in text_of(viewer.get(url))
    assert viewer.post(page_url(task, "cancel")).status_code == 403
    task.refresh_from_db()
    assert task.status == Status.STARTED


# Cost


def test_any_number_of_bodies_costs_the_same(operator, staff, url):
    def cost(client):
        with CaptureQueriesContext(connection) as asked:
            text_of(client.get(url))
        return len(asked)

    def fill(number):
        for n in range(number):
            make_type(f"app.m{n}-{number}")
            for user in (staff.user, make_user()):
                make_task(
                    Status.STARTED,
                    method=f"app.m{n}-{number}",
                    worker=make_worker(),
                    created_by=user,
                )

    fill(1)
    cost(operator)  # makes the row of the dispatcher
    few = (cost(operator), cost(staff))
    fill(8)

    assert (cost(operator), cost(staff)) == few
    assert max(few) <= 10


def test_no_more_are_shown_than_a_page_bears(boss, url, monkeypatch):
    monkeypatch.setattr(running, "MOST_SHOWN", 2)
    for age in (5, 50, 500):
        make_task(Status.STARTED, started_at=seconds_ago(age), job_name=f"B{age}.")

    page = text_of(boss.get(url))

    assert "The 2 that run longest are shown." in page
    assert "B500." in page
    assert "B5." not in page


def test_hostile_names_are_text(boss, url):
    make_task(
        Status.STARTED,
        job_name="<script>j",
        arguments={"<script>a": "<script>b"},
        document_type="<script>d",
        worker=make_worker(["<script>q"], hostname="<script>w\u202e"),
        progress={"count": 1, "total": 2, "description": "<script>p"},
    )

    page = text_of(boss.get(url))

    for hidden in ("<script>j", "<script>a", "<script>b", "<script>d", "<script>q"):
        assert hidden not in page
    assert "<script>w" not in page
    assert "\u202e" not in page


def test_who_enqueued_it_may_have_been_deleted(boss, url):
    user = make_user()
    make_task(Status.STARTED, created_by=user)
    User.objects.filter(pk=user.pk).delete()

    assert f"user {user.pk} (deleted)" in text_of(boss.get(url))
