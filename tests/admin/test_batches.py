"""The screen of the batches: numbers that equal the rows, at a cost that does not grow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

import taskcontrol
from taskcontrol import batches
from taskcontrol.models import TaskBatch, TaskEvent, TaskLog
from taskcontrol.settling import settle_batches
from taskcontrol.status import Status
from tests import tasks
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_user, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

URL = "/admin/taskcontrol/taskbatch/"


def make_batch(key: str = "b", total: int = 0, **columns) -> TaskBatch:
    return TaskBatch.objects.create(id=key, total=total, **columns)


def fill(batch: TaskBatch, **numbers: int) -> None:
    for status, number in numbers.items():
        for _ in range(number):
            make_task(Status(status), batch_id=batch.pk)


@pytest.fixture
def overseer(log_in):
    """Sees all batches."""
    return log_in("overseer", "view_taskbatch", "view_tasklog")


def test_the_bar_shows_each_status_in_proportion_and_links_to_its_members(overseer):
    batch = make_batch(total=10, pruned={"Finished": 2})
    fill(batch, Finished=3, Failed=1, Started=1, Pending=3)

    page = text_of(overseer.get(URL))

    assert "6 of 10" in page
    assert '<rect class="tc-fill-finished" x="0.000" y="0" width="50.000"' in page
    assert '<rect class="tc-fill-failed" x="50.000" y="0" width="10.000"' in page
    assert '<rect class="tc-fill-started" x="60.000" y="0" width="10.000"' in page
    link = "/admin/taskcontrol/tasklog/?batch_id=b&amp;status__exact=Failed"
    assert f'<a href="{link}"><span class="tc-badge tc-failed">1 Failed</span></a>' in page
    members = overseer.get(link.replace("&amp;", "&")).context["cl"].result_list
    assert [task.status for task in members] == [Status.FAILED]


def test_the_numbers_are_those_of_the_room(overseer):
    batch = make_batch(total=9, pruned={"Canceled": 1})
    fill(batch, Finished=2, Failed=2, Canceled=1, Queued=1, Paused=1)
    make_task(Status.FAILED, batch_id=batch.pk, retry_at=seconds_ago(-9))
    other = make_batch("empty")

    found = batches.counts_of([batch, other])

    assert found["b"]["done"] == batches.progress("b")["done"] == 6
    assert {status: found["b"][status] for status in Status} == batches.counts("b")
    assert found["empty"]["done"] == 0


def test_a_batch_goes_on_until_its_last_member_has_ended(overseer):
    batch = make_batch(total=2, title="Nightly")
    fill(batch, Finished=1)
    retrying = make_task(Status.FAILED, batch_id=batch.pk, retry_at=seconds_ago(-9))

    assert "going on" in text_of(overseer.get(URL))
    TaskLog.objects.filter(pk=retrying.pk).update(retry_at=None)

    page = text_of(overseer.get(URL))
    assert "going on" not in page
    assert '<span class="tc-badge tc-failed">ended, not all well</span>' in page


def test_the_page_of_a_batch_tells_how_long_it_lasted(overseer):
    batch = make_batch(total=1, title="Nightly", created_at=seconds_ago(100))
    make_task(
        Status.FINISHED,
        batch_id=batch.pk,
        started_at=seconds_ago(70),
        ended_at=batch.created_at + timedelta(seconds=30),
    )

    page = text_of(overseer.get(page_url(batch)))

    assert "<h1>Nightly</h1>" in page
    assert "<dd>30 s</dd>" in page


@pytest.mark.parametrize("key", ["b", "a/b c", "ü_5", '"><script>', "change"])
def test_a_batch_may_have_any_id(overseer, key):
    batch = make_batch(key, total=1)

    assert text_of(overseer.get(f"{URL}?q={key}"))
    from django.contrib.admin.utils import quote

    page = text_of(overseer.get(f"{URL}{quote(key)}/change/"))
    assert "0 of 1" in page
    assert '"><script>' not in page
    assert str(batch) == key


def test_staff_sees_the_own_batches_alone(staff):
    mine, other = make_batch("mine", created_by=staff.user), make_batch("other")

    page = text_of(staff.get(URL))
    assert "mine" in page
    assert page_url(other) not in page
    assert text_of(staff.get(page_url(mine)))
    assert staff.get(page_url(other)).status_code == 302


def test_nobody_adds_changes_or_deletes_a_batch(boss):
    batch = make_batch()

    assert boss.get(f"{URL}add/").status_code == 403
    assert boss.post(page_url(batch), {"title": "x"}).status_code == 403
    assert boss.post(page_url(batch, "delete"), {"post": "yes"}).status_code == 403


def test_a_creator_who_was_deleted_breaks_nothing(overseer):
    user = make_user()
    batch = make_batch(created_by=user)
    User.objects.filter(pk=user.pk).delete()

    for url in (URL, page_url(batch)):
        assert f"user {user.pk} (deleted)" in text_of(overseer.get(url))


def test_an_empty_batch_and_one_with_more_rows_than_its_total_show_a_sane_bar(overseer):
    make_batch("empty")
    fill(make_batch("over", total=1), Finished=3)

    page = text_of(overseer.get(URL))

    assert "0 of 0" in page
    assert "3 of 1" in page


def test_the_list_takes_as_many_queries_for_fifty_rows_as_for_one(overseer):
    counts = []
    for number in (1, 49):
        for n in range(number):
            batch = make_batch(f"{number}-{n}", total=2, created_by=make_user())
            fill(batch, Finished=1, Pending=1)
        overseer.get(URL)
        with CaptureQueriesContext(connection) as queries:
            text_of(overseer.get(URL))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 9


# Buttons

#: Button: with which permission, and what becomes of the members.
BUTTONS = {
    "cancel": ("cancel_tasklog", {"Canceled": 4, "Failed": 1}, "3 tasks canceled"),
    "pause": ("prioritize_tasklog", {"Paused": 2, "Failed": 1}, "1 task paused"),
    "resume": ("prioritize_tasklog", {"Pending": 2, "Failed": 1}, "1 task resumed"),
    "retry": ("retry_tasklog", {"Pending": 2, "Paused": 1}, "1 task retried"),
    "retry_all": ("retry_tasklog", {"Pending": 3, "Paused": 1}, "2 tasks retried"),
}
FILLED = {"Pending": 1, "Paused": 1, "Started": 1, "Failed": 1, "Canceled": 1}


@pytest.mark.parametrize("verb", BUTTONS)
def test_a_button_does_it_to_the_whole_batch_and_leaves_a_trace(log_in, verb):
    permission, becomes, told = BUTTONS[verb]
    client = log_in("doer", "view_taskbatch", permission)
    batch = make_batch(total=5)
    fill(batch, **FILLED)
    assert page_url(batch, verb) in text_of(client.get(page_url(batch)))

    response = client.post(page_url(batch, verb), {"reason": "as agreed"}, follow=True)

    numbers = batches.counts(batch.pk)
    assert {status: numbers[status] for status in becomes} == becomes
    assert response.redirect_chain == [(page_url(batch), 302)]
    takes_reason = verb in {"cancel", "pause"}
    (said,) = messages_of(response)
    assert said == (f"{told}: as agreed" if takes_reason else f"{told}.")
    entry, asked = LogEntry.objects.all()
    assert {(one.user, one.object_id) for one in (entry, asked)} == {
        (client.user, batch.pk)
    }
    assert entry.change_message == said
    assert " asked" in asked.change_message
    actors = TaskEvent.objects.filter(actor=client.user)
    assert actors.count() == int(told.split()[0])
    assert said in text_of(client.get(page_url(batch, "history")))


@pytest.mark.parametrize("verb", BUTTONS)
def test_without_the_permission_there_is_no_button_and_no_way(overseer, verb):
    batch = make_batch(total=5)
    fill(batch, **FILLED)
    before = batches.counts(batch.pk)

    assert page_url(batch, verb) not in text_of(overseer.get(page_url(batch)))
    assert overseer.post(page_url(batch, verb)).status_code == 403
    assert overseer.get(page_url(batch, verb)).status_code == 405

    assert batches.counts(batch.pk) == before
    assert not LogEntry.objects.exists()


def test_the_creator_of_a_batch_cancels_the_own_tasks_without_a_permission(staff):
    batch = make_batch(total=2, created_by=staff.user)
    own = make_task(batch_id=batch.pk, created_by=staff.user)
    other = make_task(batch_id=batch.pk)

    response = staff.post(page_url(batch, "cancel"), follow=True)

    assert messages_of(response) == ["1 task canceled."]
    own.refresh_from_db()
    other.refresh_from_db()
    assert (own.status, other.status) == (Status.CANCELED, Status.PENDING)


def test_a_batch_of_somebody_else_is_not_there(staff):
    batch = make_batch(total=1)

    assert staff.post(page_url(batch, "cancel")).status_code == 404


def test_the_buttons_are_those_that_fit_the_batch(boss):
    def shown(**numbers) -> set[str]:
        batch = make_batch(f"b-{len(fitting)}", total=sum(numbers.values()))
        fill(batch, **numbers)
        page = text_of(boss.get(page_url(batch)))
        return {verb for verb in BUTTONS if page_url(batch, verb) in page}

    fitting: dict[str, set[str]] = {}
    for status in Status:
        fitting[status] = shown(**{status: 1})

    going = {"pause", "cancel"}
    assert fitting == {
        Status.PENDING: going,
        Status.PAUSED: {"resume", *going},
        Status.QUEUED: going,
        Status.STARTED: going,
        Status.FINISHED: set(),
        Status.FAILED: {"retry"},
        Status.CANCELED: {"retry_all"},
    }


def test_the_page_says_that_and_why_a_batch_is_held_back(boss):
    batch = make_batch(total=2, on_failure="hold", open_since=seconds_ago(9))
    fill(batch, Failed=1, Paused=1)
    failed = TaskLog.objects.get(status=Status.FAILED)

    page = text_of(boss.get(page_url(batch)))

    assert f"It is held back, since task {failed.pk} failed." in page
    assert '<span class="tc-badge tc-paused">held back</span>' in page


def test_a_batch_that_was_canceled_says_so(boss):
    batch = make_batch(total=1)
    fill(batch, Pending=1)
    boss.post(page_url(batch, "cancel"))

    badge = '<span class="tc-badge tc-canceled">canceled</span>'
    assert badge in text_of(boss.get(page_url(batch)))


def test_a_batch_whose_tasks_are_still_to_come_has_not_ended(boss):
    taskcontrol.create_batch("b")
    batch = TaskBatch.objects.get()

    page = text_of(boss.get(page_url(batch)))
    assert '<span class="tc-badge tc-pending">no tasks yet</span>' in page
    assert page_url(batch, "cancel") in page

    taskcontrol.bulk_enqueue([], batch_id="b")
    assert settle_batches() == 1
    assert "no tasks yet" not in text_of(boss.get(page_url(batch)))


def test_a_paused_batch_says_why(boss):
    batch = make_batch(total=1)
    fill(batch, Pending=1)
    boss.post(page_url(batch, "pause"), {"reason": "<b>month end"})

    page = text_of(boss.get(page_url(batch)))

    assert "It is paused (&lt;b&gt;month end)." in page
    assert '<span class="tc-badge tc-paused">paused</span>' in page


def test_the_page_links_to_the_tasks_of_the_callbacks_and_hides_what_they_were_given(boss):
    key = taskcontrol.create_batch(
        on_success={"method": tasks.give_back, "value": "s3cr3t"}, on_failure=tasks.nothing
    )
    taskcontrol.bulk_enqueue([], batch_id=key)
    assert settle_batches() == 1

    page = text_of(boss.get(page_url(TaskBatch.objects.get())))

    assert page_url(TaskLog.objects.get()) in page
    assert "tests.tasks.give_back" in page
    assert "tests.tasks.nothing" in page
    assert "s3cr3t" not in page


def test_the_state_of_each_callback_is_told(boss):
    key = taskcontrol.create_batch(
        on_success=tasks.give_back, on_failure=tasks.nothing, on_completion=tasks.nothing
    )
    batch = TaskBatch.objects.get()
    fill(batch, Finished=1)
    TaskBatch.objects.update(total=1)
    before = text_of(boss.get(page_url(batch)))
    assert before.count("not called</span>") == 3

    taskcontrol.bulk_enqueue([], batch_id=key)
    settle_batches()
    page = text_of(boss.get(page_url(batch)))
    assert page.count("not called</span>") == 1
    assert page.count('tc-pending">Pending</span>') == 2

    TaskLog.objects.filter(batch_id=None).delete()
    assert text_of(boss.get(page_url(batch))).count("its task was deleted") == 2


def test_the_task_that_filled_a_batch_is_linked(overseer):
    batch = make_batch(total=1)
    assert "filled by" not in text_of(overseer.get(page_url(batch)))
    coordinator = make_task(Status.FINISHED, job_name="Find out what there is")
    make_task(batch_id="b", parent=coordinator)

    page = text_of(overseer.get(page_url(batch)))

    assert "filled by" in page
    assert f'<a href="{page_url(coordinator)}" title="">Find out what there is</a>' in page


def test_the_page_leads_to_all_members(overseer):
    batch = make_batch(total=1200)
    link = '<a href="/admin/taskcontrol/tasklog/?batch_id=b" title="">1,200</a>'
    assert link in text_of(overseer.get(page_url(batch)))


# How fast it goes


@pytest.mark.parametrize(
    ("age", "ended", "total", "told"),
    [
        (100, 5, 10, "3 a minute, about 1 min left"),
        (3600, 10, 130, "2 a minute, about 1 h left"),
        (3600, 60, 120, "12 a minute, about 5 min left"),
        (3600, 0, 10, None),
        (100, 5, 5, None),
    ],
)
def test_the_pace_is_that_of_the_last_minutes(overseer, age, ended, total, told):
    batch = make_batch(total=total, created_at=seconds_ago(age))
    fill(batch, Finished=ended)

    for url in (URL, page_url(batch)):
        page = text_of(overseer.get(url))
        assert told in page if told else "a minute" not in page


def test_what_ended_long_ago_says_nothing_of_the_pace(overseer):
    batch = make_batch(total=10, created_at=seconds_ago(9000))
    make_task(Status.FINISHED, batch_id="b", ended_at=seconds_ago(8000))
    assert "a minute" not in text_of(overseer.get(page_url(batch)))


def test_a_paused_batch_has_no_end_in_sight(overseer):
    columns = {"created_at": seconds_ago(100), "paused_at": seconds_ago(1)}
    fill(make_batch(total=10, **columns), Finished=5)
    page = text_of(overseer.get(URL))
    assert "3 a minute<" in page


# Live


def test_cells_follow_their_batch_until_it_is_over(overseer):
    fill(make_batch('a"b', total=2), Pending=1, Finished=1)
    fill(make_batch("over", total=1), Finished=1)

    page = text_of(overseer.get(URL))

    assert page.count('data-tc-batch="a&quot;b"') == 2
    assert 'data-tc-live="bar-a_22b"' in page
    assert 'data-tc-batch="over"' not in page
