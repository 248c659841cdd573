"""The screen of the batches: numbers that equal the rows, at a cost that does not grow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import batches
from taskcontrol.models import TaskBatch, TaskLog
from taskcontrol.status import Status
from tests.admin.conftest import page_url, text_of
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
