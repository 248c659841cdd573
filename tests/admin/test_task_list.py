"""The list of tasks: what it shows to whom, its filters and search, its cost."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from taskcontrol.counting import capped_count
from taskcontrol.models import TaskAttempt, TaskLog, TaskType
from taskcontrol.screens.tasklists import HEAVY
from taskcontrol.status import Status
from tests.admin.conftest import list_url, messages_of, page_url, text_of
from tests.factories import make_task, make_type, make_user, seconds_ago
from tests.test_progress import NONSENSE

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/tasklog/"
SCRIPT = "<script>alert('x')</script>"
BIDI = "invoice\u202efdp.exe"


def rows_of(response) -> int:
    return len(response.context["cl"].result_list)


def shown(response) -> set[int]:
    return {task.pk for task in response.context["cl"].result_list}


# Who sees what


@pytest.mark.parametrize("stored", NONSENSE, ids=lambda one: f"{one!r:.40}")
def test_nonsense_in_the_progress_of_one_row_takes_no_page_down(boss, stored):
    owner = User.objects.get(pk=boss.session["_auth_user_id"])
    began = {"occupies": True, "started_at": seconds_ago(3600), "created_by": owner}
    bad = make_task(Status.STARTED, progress=stored, **began)
    good = make_task(Status.STARTED, progress={"count": 1, "total": 4}, **began)

    for page in (
        URL,
        page_url(bad),
        reverse("admin:taskcontrol_running"),
        "/taskcontrol/mine/",
    ):
        assert str(bad.pk) in text_of(boss.get(page))
    told = boss.get(f"/taskcontrol/live/state?tasks={bad.pk},{good.pk}")
    states = json.loads(told.content, parse_constant=pytest.fail)["tasks"]
    assert {state["name"] for state in states} == {bad.name, good.name}


@pytest.mark.parametrize("status", Status)
def test_a_task_is_listed_in_every_status_by_word_and_color(viewer, status):
    make_task(status, job_name="A task")

    page = text_of(viewer.get(URL))

    assert "A task" in page
    assert f'<span class="tc-badge tc-{status.lower()}">{status}</span>' in page


def test_a_visitor_is_sent_to_the_login(client, db):
    assert client.get(URL).url.startswith("/admin/login/")


def test_a_user_who_is_not_of_the_staff_is_sent_to_the_login(log_in):
    outsider = log_in("outsider", "view_tasklog", is_staff=False)

    assert outsider.get(URL).url.startswith("/admin/login/")


def test_staff_without_the_permission_sees_the_own_tasks_alone(staff):
    mine = make_task(created_by=staff.user)
    make_task(created_by=make_user())
    make_task()

    assert shown(staff.get(URL)) == {mine.pk}


def test_staff_with_the_permission_sees_all_tasks(viewer):
    tasks = {make_task(created_by=viewer.user).pk, make_task().pk}

    assert shown(viewer.get(URL)) == tasks


def test_nobody_can_add_a_task(boss):
    assert boss.get(f"{URL}add/").status_code == 403


# What it shows


def test_a_body_that_is_still_to_go_is_shown_as_stopping(viewer):
    make_task(Status.CANCELED, occupies=True)

    assert "stopping</span>" in text_of(viewer.get(URL)).split('id="result_list"')[1]


def test_a_failed_task_says_why_and_when_it_runs_again(viewer):
    make_task(
        Status.FAILED,
        error_message="Traceback …\nValueError: no such customer",
        retry_at=seconds_ago(-90),
        retry_count=1,
        max_retries=3,
    )

    page = text_of(viewer.get(URL))

    assert "ValueError: no such customer" in page
    assert "Traceback" not in page
    assert re.search(r"retry <time[^>]*>in 1 min</time>", page)
    assert "1 of 3 retries" in page


def test_the_wait_of_a_later_attempt_counts_from_the_end_of_the_earlier_one(viewer):
    task = make_task(
        Status.STARTED, created_at=seconds_ago(9000), started_at=seconds_ago(50), attempt=2
    )
    TaskAttempt.objects.create(
        task=task, attempt=1, status=Status.FAILED, ended_at=seconds_ago(80)
    )

    assert "after 30 s" in text_of(viewer.get(URL))


def test_a_running_task_shows_how_far_it_is(viewer):
    make_task(Status.STARTED, progress={"count": 3, "total": 10})
    make_task(Status.STARTED, progress={"message": "looking"})

    page = text_of(viewer.get(URL))

    assert '<progress class="tc-progress" value="3" max="10">' in page
    assert page.count("<progress") == 1


@pytest.mark.parametrize(
    "progress",
    [[], "half", {"count": "3", "total": "x"}, {"count": 3, "total": 0}, {"count": True}],
)
def test_progress_that_is_none_breaks_nothing(viewer, progress):
    task = make_task(Status.STARTED, progress=progress)

    assert "<progress" not in text_of(viewer.get(URL))
    assert viewer.get(f"{URL}{task.pk}/change/").status_code == 200


def test_a_creator_who_was_deleted_is_told_by_the_number(viewer):
    task = make_task(created_by=make_user("gone"))
    User.objects.filter(username="gone").delete()

    page = text_of(viewer.get(URL))

    assert f"user {task.created_by_id} (deleted)" in page


def test_hostile_text_is_shown_as_text(boss):
    make_task(
        Status.FAILED,
        job_name=f"{SCRIPT}{BIDI}",
        method="evil.<b>x</b>",
        error_message=f"{SCRIPT}{BIDI}",
    )

    page = text_of(boss.get(URL))

    assert SCRIPT not in page
    assert "<b>x</b>" not in page
    # The box to select the row carries the plain text in an attribute that nobody sees.
    assert "\u202e" not in re.sub(r'aria-label="[^"]*"', "", page)
    assert r"invoice\u202efdp.exe" in page


def test_the_type_is_linked_for_those_who_may_see_types(viewer, boss):
    kind = make_type("shop.billing.charge")
    make_task(method=kind.method)
    url = f"/admin/taskcontrol/tasktype/{kind.pk}/change/"

    assert url in text_of(boss.get(URL))
    assert url not in text_of(viewer.get(URL))


# Filters and search


def test_each_status_filters_and_stopping_finds_bodies_still_to_go(viewer):
    tasks = {status: make_task(status).pk for status in Status}
    stopping = make_task(Status.FAILED, occupies=True).pk

    for status in set(Status) - {Status.FAILED}:
        assert shown(viewer.get(URL, {"status__exact": status})) == {tasks[status]}
    failed = {tasks[Status.FAILED], stopping}
    assert shown(viewer.get(URL, {"status__exact": Status.FAILED})) == failed
    assert shown(viewer.get(URL, {"status__exact": "stopping"})) == {stopping}


def test_the_filters_find_what_they_say(viewer):
    plain = make_task(Status.FINISHED)
    long = make_task(queue="long")
    broken = make_task(Status.FAILED, error_message="boom")
    due = make_task(Status.FAILED, error_message="boom", retry_at=seconds_ago(-9))

    assert shown(viewer.get(URL, {"queue": "long"})) == {long.pk}
    assert shown(viewer.get(URL, {"error": "yes"})) == {broken.pk, due.pk}
    assert shown(viewer.get(URL, {"error": "no"})) == {plain.pk, long.pk}
    assert shown(viewer.get(URL, {"retry": "due"})) == {due.pk}


def test_a_link_to_a_batch_a_type_or_a_label_filters_and_can_be_taken_off(viewer):
    member = make_task(batch_id="b-1", method="a.b", event="nightly")
    make_task()

    for query in ({"batch_id": "b-1"}, {"method": "a.b"}, {"event": "nightly"}):
        response = viewer.get(URL, query)
        assert shown(response) == {member.pk}
        titles = [str(spec.title) for spec in response.context["cl"].filter_specs]
        assert {"batch", "task type", "event"} & set(titles)
    assert "By batch" not in text_of(viewer.get(URL))


@pytest.mark.parametrize(
    "query",
    [
        {"status__exact": "Nonsense"},
        {"status__exact": "a\0b"},
        {"queue": "nowhere"},
        {"batch_id": "x" * 500},
        {"p": "99"},
        {"p": "x"},
        {"o": "1.2.3"},
        {"all": ""},
        {"_facets": "True"},
        {"created_by": "nobody"},
        {"q": "\0"},
        {"q": "9" * 400},
        {"q": "%_\\'\""},
        {"q": "²"},
    ],
)
def test_nonsense_in_the_address_is_answered_and_shows_no_facets(viewer, query):
    make_task()

    response = viewer.get(URL, query, follow=True)

    assert response.status_code == (400 if "a\0b" in query.values() else 200)
    assert "Show counts" not in response.content.decode()


@pytest.mark.parametrize(
    "lookup",
    [
        "arguments__password__startswith",
        "error_message__contains",
        "debug_log__regex",
        "created_by__password__startswith",
        "job_name__icontains",
        "options__x",
    ],
)
def test_an_address_cannot_ask_for_what_is_masked(viewer, lookup):
    make_task(arguments={"password": "abc"})

    assert viewer.get(URL, {lookup: "a"}).status_code == 400


def test_search_finds_by_each_key_and_by_the_beginning_of_a_method(viewer):
    wanted = make_task(
        Status.QUEUED,
        method="shop.billing.charge",
        batch_id="batch-7",
        job_id="job-7",
        document_name="INV-7",
        event="monthly",
    )
    make_task(method="other.thing")
    TaskType.objects.create(method="shop.billing.charge")
    terms = (
        str(wanted.pk),
        wanted.celery_task_id,
        "batch-7",
        "job-7",
        "INV-7",
        "monthly",
        "shop.billing.charge",
        "shop.b",
        " batch-7 ",
    )

    for term in terms:
        assert shown(viewer.get(URL, {"q": term})) == {wanted.pk}, term
    for term in ("batch", "INV", "nothing"):
        assert shown(viewer.get(URL, {"q": term})) == set(), term


def test_a_method_without_a_stored_type_is_found_whole(viewer):
    wanted = make_task(method="brand.new.method")

    assert shown(viewer.get(URL, {"q": "brand.new.method"})) == {wanted.pk}


def test_search_shows_no_task_of_others(staff):
    make_task(job_id="secret")

    assert shown(staff.get(URL, {"q": "secret"})) == set()


# The tabs


def numbers_of(response) -> dict[str, str]:
    return {str(tab.label): tab.number for tab in response.context["cl"].tabs}


def test_the_tabs_count_each_status_and_lead_to_it(viewer):
    for status in (Status.PENDING, Status.PENDING, Status.FAILED, Status.FINISHED):
        make_task(status)

    response = viewer.get(URL)
    page = text_of(response)
    numbers = numbers_of(response)

    assert (numbers["All"], numbers["Pending"], numbers["Paused"]) == ("4", "2", "0")
    assert (numbers["Failed"], numbers["Finished"]) == ("1", "1")
    assert "stopping" not in numbers
    assert 'data-tc-live="tabs" data-tc-every="5"' in page
    assert 'href="?status__exact=Failed"' in page
    assert '<a class="tc-edge-all" href="?" aria-current="page">' in page
    assert viewer.get(f"{URL}?status__exact=Failed").context["cl"].result_count == 1


def test_a_body_that_is_still_to_go_has_a_tab(viewer):
    make_task(Status.CANCELED, occupies=True)

    assert numbers_of(viewer.get(URL))["stopping"] == "1"


def test_the_tabs_count_what_the_list_shows_otherwise_and_keep_it(viewer):
    make_task(Status.FAILED, event="a")
    make_task(Status.PENDING, event="a")
    make_task(Status.FAILED, event="b")

    for query in ({"event": "a"}, {"q": "event:a"}):
        response = viewer.get(URL, {**query, "status__exact": "Failed"})
        numbers = numbers_of(response)
        assert (numbers["All"], numbers["Failed"], numbers["Pending"]) == ("2", "1", "1")
        assert response.context["cl"].result_count == 1
        kept = response.context["cl"].tabs[1].url
        assert "status__exact=Pending" in kept
        assert "event" in kept


def test_the_tabs_of_a_search_that_no_index_serves_have_no_numbers(viewer):
    make_task(queue="long")

    for query in ({"q": "queue:long"}, {"queue": "long"}):
        response = viewer.get(URL, query)
        assert set(numbers_of(response).values()) == {""}
        assert response.context["cl"].result_count == 1


def test_who_sees_own_tasks_alone_counts_own_tasks_alone(staff):
    make_task(created_by=staff.user)
    make_task(Status.FAILED, created_by=staff.user)
    make_task()

    numbers = numbers_of(staff.get(URL))

    assert (numbers["All"], numbers["Pending"], numbers["Failed"]) == ("2", "1", "1")


def test_numbers_beyond_the_bound_read_as_at_least(viewer, staff, monkeypatch):
    monkeypatch.setattr("taskcontrol.counting.MOST_COUNTED", 2)
    for _ in range(3):
        make_task(event="a", created_by=staff.user)
    make_task(Status.FAILED, event="a")

    everything = numbers_of(viewer.get(URL))
    narrowed = numbers_of(viewer.get(URL, {"event": "a"}))
    failed = viewer.get(URL, {"event": "a", "status__exact": "Failed"})

    assert (everything["All"], everything["Pending"]) == ("2+", "2+")
    assert everything["Failed"] == "1"
    # Of the newest that were counted: at least so many, and of some nobody knows.
    assert (narrowed["All"], narrowed["Failed"], narrowed["Paused"]) == ("2+", "1+", "")
    assert failed.context["cl"].result_count == 1
    assert numbers_of(staff.get(URL))["All"] == "2+"


# Rows that a page asks for again


NARROWED = [
    {},
    {"status__exact": "Pending"},
    {"queue": "long"},
    {"event": "a"},
    {"method": "m.a"},
    {"q": "m.a"},
    {"q": "queue:long event:a"},
    {"q": "args.n:1"},
    {"q": "age<1h"},
]


@pytest.mark.parametrize("query", NARROWED)
def test_rows_are_answered_as_they_are_now_whatever_narrowed_the_list(viewer, query):
    task = make_task(Status.FINISHED, method="other", job_name="It is over")

    told = viewer.get(f"{URL}rows", {**query, "ids": f"{task.pk}"}).json()

    assert "It is over" in told["rows"]
    assert f'data-tc-task="{task.pk}"' in told["rows"]


@pytest.mark.parametrize("query", NARROWED)
def test_newer_tasks_are_those_that_the_list_would_show(viewer, query):
    match = {"method": "m.a", "queue": "long", "event": "a", "arguments": {"n": 1}}
    first = make_task(**match)
    for _ in range(2):
        make_task(**match)
    make_task(Status.FINISHED, method="other", created_at=seconds_ago(9000))

    told = viewer.get(f"{URL}rows", {**query, "newer": f"{first.pk}"}).json()

    expected = 2 if query else 3
    assert told == {"newer": expected, "text": f"{expected} new - show"}


def test_no_row_of_others_is_answered(staff):
    other = make_task(job_name="Of another")

    told = staff.get(f"{URL}rows", {"ids": f"{other.pk}"}).json()
    newer = staff.get(f"{URL}rows", {"newer": "1"}).json()

    assert "Of another" not in told["rows"]
    assert newer["newer"] == 0


@pytest.mark.parametrize("asked", [{"ids": "1,2"}, {"newer": "1"}])
def test_asking_for_rows_counts_no_tabs_and_costs_little(viewer, asked):
    many(5)
    viewer.get(URL)

    with CaptureQueriesContext(connection) as queries:
        assert viewer.get(f"{URL}rows", asked).status_code == 200

    assert len(queries) <= 6
    assert not any("few" in query["sql"] for query in queries)


# Cost


def many(number: int) -> None:
    for n in range(number):
        make_task(
            list(Status)[n % 7],
            method=f"m.m{n}",
            created_by=make_user(),
            error_message="boom" if n % 7 == 5 else "",
        )


def test_the_list_takes_as_many_queries_for_fifty_rows_as_for_one(viewer):
    counts = []
    for number in (1, 49):
        many(number)
        viewer.get(URL)
        with CaptureQueriesContext(connection) as queries:
            text_of(viewer.get(URL))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 7


def test_the_list_reads_no_heavy_column_and_counts_up_to_a_bound(viewer):
    many(2)

    with CaptureQueriesContext(connection) as queries:
        viewer.get(URL)

    about_tasks = [
        query["sql"] for query in queries if "taskcontrol_tasklog" in query["sql"]
    ]
    page = next(sql for sql in about_tasks if "COUNT" not in sql)
    (count,) = [sql for sql in about_tasks if "COUNT" in sql]
    assert "LIMIT 10001" in count
    for column in set(HEAVY) - {"error_message"}:
        assert f"{column}" not in page


def test_more_rows_than_are_counted_read_as_at_least(viewer, monkeypatch):
    monkeypatch.setattr("taskcontrol.counting.MOST_COUNTED", 2)
    for _ in range(3):
        make_task()

    count = capped_count(TaskLog.objects.all())

    assert (count, str(count)) == (2, "2+")
    assert "2+ tasks" in text_of(viewer.get(URL))


def test_the_page_of_the_list_is_named_and_free_of_inline_script_and_style(viewer):
    make_task(Status.STARTED, progress={"count": 1, "total": 2})

    page = text_of(viewer.get(list_url()))

    assert "<h1>Tasks</h1>" in page
    assert not re.search(r"<script(?![^>]*(\bsrc=|application/json))[^>]*>\s*\S", page)
    assert " style=" not in page
    assert " onclick=" not in page


def test_a_time_taken_is_shown(viewer):
    make_task(Status.FINISHED, time_taken=timedelta(minutes=3, seconds=5))

    response = viewer.get(URL)

    assert "3 min 5 s" in text_of(response)
    assert messages_of(response) == []
