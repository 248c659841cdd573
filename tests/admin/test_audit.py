"""The audit: who did what to which task and why, for those who may know."""

from __future__ import annotations

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import suspension
from taskcontrol.models import QueueState, TaskEvent
from taskcontrol.screens import machinery, searching
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from taskcontrol.switching import switch
from tests.admin.conftest import list_url, page_url, text_of
from tests.factories import make_batch, make_task, make_type, make_user, make_worker

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

AUDIT = "/admin/taskcontrol/taskevent/"
Kind = TaskEvent.Kind


@pytest.fixture
def auditor(log_in):
    """Sees what everybody did, and all tasks."""
    return log_in("auditor", "view_taskevent", "view_tasklog")


def make_event(task=None, kind=Kind.CANCELED, actor=None, **columns):
    """Store something that happened."""
    task = task or make_task()
    return TaskEvent.objects.create(
        task=task, kind=kind, actor_id=getattr(actor, "pk", None), **columns
    )


def shown(response):
    """Return the events of the page, in its order."""
    text_of(response)
    return [event.pk for event in response.context["cl"].result_list]


def test_the_audit_tells_who_did_what_to_which_task_and_why(auditor):
    ann = make_user("ann")
    task = make_task(Status.CANCELED, job_name="Monthly bill")
    make_event(task, actor=ann, old="Pending", new="Canceled", detail="wrong month")
    make_event(task, Kind.RESCUED, detail="worker w@1 is gone", attempt=3)

    page = text_of(auditor.get(AUDIT))

    for told in ("ann", "wrong month", "Monthly bill", "the system", "w@1 is gone"):
        assert told in page
    assert page_url(task) in page
    assert f"?task={task.pk}" in page
    assert f"?actor={ann.pk}" in page
    assert "attempt 3" in page
    assert page.index("w@1 is gone") < page.index("wrong month")


@pytest.mark.parametrize("role", ["staff", "viewer", "operator"])
def test_without_the_permission_there_is_no_audit(request, role):
    client = request.getfixturevalue(role)
    make_event()

    assert client.get(AUDIT).status_code == 403
    assert AUDIT not in text_of(client.get("/admin/"))


def test_nobody_adds_changes_or_deletes_an_event(boss):
    event = make_event()

    for page in ("add/", f"{event.pk}/change/", f"{event.pk}/delete/"):
        assert boss.post(f"{AUDIT}{page}", {"post": "yes"}).status_code in {403, 404}
    boss.post(AUDIT, {"action": "delete_selected", "_selected_action": [event.pk]})
    assert TaskEvent.objects.filter(pk=event.pk).exists()


def test_who_may_not_see_a_task_reads_its_number_only(log_in):
    client = log_in("blind", "view_taskevent")
    task = make_task(job_name="Salary of ann")
    own = make_task(job_name="My own", created_by=client.user)
    make_event(task)
    make_event(own)

    page = text_of(client.get(AUDIT))

    assert "Salary of ann" not in page
    assert page_url(task) not in page
    assert f"task {task.pk}" in page
    assert "My own" in page


def test_a_person_leads_to_the_account_for_those_who_may_see_accounts(boss, auditor):
    ann = make_user("ann")
    make_event(actor=ann)
    account = f"/admin/auth/user/{ann.pk}/change/"

    assert account in text_of(boss.get(AUDIT))
    assert account not in text_of(auditor.get(AUDIT))


def test_a_deleted_person_and_a_pruned_task_are_still_told(auditor):
    ann = make_user("ann")
    task = make_task()
    key, number = ann.pk, task.pk
    make_event(task, actor=ann)
    ann.delete()
    type(task).objects.filter(pk=task.pk).delete()

    page = text_of(auditor.get(AUDIT))

    assert f"user {key} (deleted)" in page
    assert f"task {number}" in page


def test_the_filters_narrow_by_what_by_whom_and_by_task(auditor):
    ann, bob = make_user("ann"), make_user("bob")
    task = make_task()
    first = make_event(task, Kind.CANCELED, ann)
    second = make_event(task, Kind.RESCUED)
    third = make_event(None, Kind.PAUSED, bob)
    fourth = make_event(None, Kind.CANCELED, bob)

    for query, wanted in (
        ("kind=canceled", [fourth, first]),
        (f"actor={bob.pk}", [fourth, third]),
        ("actor=people", [fourth, third, first]),
        ("actor=system", [second]),
        (f"task={task.pk}", [second, first]),
        (f"task={task.pk}&kind=canceled", [first]),
        (f"actor={bob.pk}&kind=paused", [third]),
        ("q=bob", [fourth, third]),
        (f"q={task.pk}", [second, first]),
        (f"q={task.pk}&kind=rescued", [second]),
        ("q=nobody+of+that+name", []),
    ):
        found = shown(auditor.get(f"{AUDIT}?{query}"))
        assert found == [event.pk for event in wanted], query


def test_the_chosen_person_is_named_among_the_choices(auditor):
    ann = make_user("ann")
    make_event(actor=ann)
    assert "ann" in text_of(auditor.get(f"{AUDIT}?actor={ann.pk}"))


@pytest.mark.parametrize(
    "query",
    [
        "kind=%00",
        "actor=ann",
        "actor=99999999999999999999999",
        "task=x",
        "task=99999999999999999999999",
        "q=%00",
        "q=99999999999999999999999",
        "kind=nothing",
        "p=0",
    ],
)
def test_nonsense_in_the_address_finds_nothing_and_breaks_nothing(auditor, query):
    make_event()
    assert auditor.get(f"{AUDIT}?{query}").status_code in {200, 302, 400}


@pytest.mark.parametrize("lookup", ["detail__startswith", "actor__password__startswith"])
def test_the_address_asks_for_nothing_else(auditor, lookup):
    make_event()
    assert auditor.get(f"{AUDIT}?{lookup}=a").status_code in {302, 400}


def test_a_second_condition_is_looked_for_in_the_newest_and_the_page_says_so(
    auditor, monkeypatch
):
    monkeypatch.setattr(searching, "NEWEST", 3)
    ann = make_user("ann")
    task = make_task()
    make_event(task, Kind.PAUSED, ann)
    for _ in range(4):
        make_event(task, Kind.CANCELED, ann)

    page = auditor.get(f"{AUDIT}?actor={ann.pk}&kind=paused")

    assert shown(page) == []
    assert "newest 3 of the events" in text_of(page)
    assert "newest 3 of" not in text_of(auditor.get(f"{AUDIT}?kind=paused"))


def test_many_events_take_as_many_queries_as_one(auditor):
    ann = make_user("ann")
    make_event(actor=ann)
    auditor.get(AUDIT)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            text_of(auditor.get(AUDIT))
        counts.append(len(queries))
        for _more in range(20):
            make_event(actor=make_user())
    assert counts[0] == counts[1]
    assert counts[0] <= 14


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("query", ["", "kind=rescued", "actor={ann}", "task={task}"])
def test_no_audit_reads_the_whole_table(auditor, query):
    ann, task = make_user("ann"), make_task()
    make_event(task, Kind.RESCUED, ann)
    TaskEvent.objects.bulk_create(
        TaskEvent(task_id=number, kind=Kind.RESENT) for number in range(20_000)
    )
    make_event(task, Kind.RESCUED, ann)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE taskcontrol_taskevent")
    url = f"{AUDIT}?{query.format(ann=ann.pk, task=task.pk)}"
    with CaptureQueriesContext(connection) as queries:
        text_of(auditor.get(url))
    asked = [one["sql"] for one in queries if 'FROM "taskcontrol_taskevent"' in one["sql"]]
    assert asked
    for sql in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
            plan = json.dumps(cursor.fetchone()[0])
        # Without a condition the count stops at its cap, wherever it begins.
        whole = '"Seq Scan", [^{}]*"Relation Name": "taskcontrol_taskevent"'
        assert not re.search(whole, plan) or (not query and '"Limit"' in plan), plan


def test_what_people_did_to_the_machinery_stands_below(auditor):
    boss = make_user("chief", is_superuser=True)
    switch(boss, enable=False, reason="moving the index")
    assert suspension.dispatcher_state().suspended

    page = text_of(auditor.get(AUDIT))

    assert "moving the index" in page
    assert "chief" in page
    assert (
        "moving the index"
        not in text_of(auditor.get(f"{AUDIT}?kind=paused")).split('id="changelist"')[1]
    )


def test_every_act_of_a_screen_is_told_in_the_audit(boss):
    kind, queue = make_type(), QueueState.objects.create(name="long")
    worker, batch = make_worker(), make_batch("b", total=1)
    make_task(queue="long")
    make_task(Status.FAILED, batch_id="b")
    gone = make_task(Status.FINISHED, job_name="Old bill")
    presses = [
        (kind, "run", {}, "Made task"),
        (kind, "pause", {"reason": "slow type"}, "slow type"),
        (kind, "resume", {}, "Resumed"),
        (queue, "pause", {"reason": "full disk"}, "full disk"),
        (queue, "resume", {}, "Resumed"),
        (queue, "purge", {"name": "long", "reason": "wrong import"}, "wrong import"),
        (worker, "drain", {}, "Told to leave"),
        (batch, "retry", {}, "Retry asked."),
        (batch, "cancel", {"reason": "too late"}, "1 task canceled: too late"),
        (dispatcher_state(), "suspend", {"reason": "moving"}, "moving"),
        (dispatcher_state(), "resume", {}, "The dispatcher was resumed."),
        (gone, "delete", {"post": "yes"}, "Old bill"),
    ]
    for row, verb, given, _told in presses:
        answer = boss.post(page_url(row, verb), given)
        assert answer.status_code == 302, (row, verb, answer.content)

    below = text_of(boss.get(AUDIT)).split('id="tc-machinery"')[1]

    missing = [told for *_press, told in presses if told not in below]
    assert not missing


def test_deletions_of_many_tasks_push_nothing_else_out_of_the_audit(boss, monkeypatch):
    monkeypatch.setattr(machinery, "MOST_ACTS", 2)
    switch(boss.user, enable=False, reason="moving the index")
    for _ in range(3):
        boss.post(page_url(make_task(Status.FINISHED), "delete"), {"post": "yes"})

    below = text_of(boss.get(AUDIT)).split('id="tc-machinery"')[1]

    assert "moving the index" in below
    assert below.count("<tr><td>") == 3


def test_hostile_texts_are_shown_as_texts(auditor):
    make_event(make_task(job_name="<script>x</script>"), detail="<b>why</b>\u202e")
    page = text_of(auditor.get(AUDIT))
    assert "<script>x" not in page
    assert "&lt;b&gt;why&lt;/b&gt;\\u202e" in page


def test_the_page_is_free_of_inline_script_and_style(auditor):
    make_type()
    make_event()
    page = text_of(auditor.get(AUDIT))
    for inline in ("<style", " style=", "onclick=", "javascript:"):
        assert inline not in page
    assert list_url("tasklog") in page
