"""The screen of the workers: what they do, what was taken from them, ping and drain."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.lifecycle import fail, rescue
from taskcontrol.models import Worker
from taskcontrol.status import Status
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

WORKERS = "/admin/taskcontrol/worker/"


@pytest.fixture
def steward(log_in):
    """May ping and drain workers and nothing else."""
    return log_in("steward", "control_worker")


def row_of(page: str, worker: Worker) -> str:
    (row,) = [row for row in page.split("<tr>") if f">{worker.hostname}<" in row]
    return row


# The list


def test_each_worker_names_what_it_runs(viewer, log_in):
    worker = make_worker(pool_size=8, versions={"python": "3.12.1"}, cpu_percent=12.4)
    running = [make_task(Status.STARTED, worker=worker, job_name=f"B{n}") for n in range(4)]
    overseer = log_in("overseer", "view_worker", "view_tasklog")

    row = row_of(text_of(overseer.get(WORKERS)), worker)

    assert "4 / 8" in row
    assert [page_url(task) in row for task in running] == [True, True, True, False]
    assert "+ 1" in row
    assert "python 3.12.1" in row
    assert "12 % CPU" in row


def test_what_a_worker_has_claimed_for_its_children_takes_its_slots(viewer, log_in):
    worker = make_worker(pool_size=3)
    make_task(Status.STARTED, worker=worker)
    make_task(Status.QUEUED, worker=worker)
    make_task(Status.QUEUED)
    overseer = log_in("overseer", "view_worker", "view_tasklog")

    assert "2 / 3" in row_of(text_of(overseer.get(WORKERS)), worker)
    assert "2 / 3" in text_of(overseer.get(page_url(worker)))


def test_names_of_tasks_are_for_those_who_may_see_them(steward):
    worker = make_worker()
    make_task(Status.STARTED, worker=worker, job_name="Secret")

    row = row_of(text_of(steward.get(WORKERS)), worker)

    assert "1 / 2" in row
    assert "Secret" not in row


@pytest.mark.parametrize(
    ("offset", "told", "warned"),
    [
        (0.003, "clock right", False),
        (0.4, "clock 0.4 s ahead", False),
        (-90.0, "clock 1 min 30 s behind", True),
    ],
)
def test_a_clock_that_is_off_is_told(boss, offset, told, warned):
    worker = make_worker(clock_offset=offset)

    row = row_of(text_of(boss.get(WORKERS)), worker)

    assert told in row
    assert ("tc-why" in row) is warned
    assert ("tc-why" in text_of(boss.get(page_url(worker)))) is warned


def test_those_that_are_gone_stand_below_with_what_was_taken_from_them(boss):
    lost = make_worker(hostname="lost@here", lost_at=seconds_ago(5))
    there = make_worker(hostname="there@here")
    left = make_worker(hostname="left@here", left_at=seconds_ago(5))
    task = make_task(Status.STARTED, worker=lost)
    rescue(task.pk, 1, detail="its process was lost (worker lost@here)")

    page = text_of(boss.get(WORKERS))

    places = [page.index(f">{one.hostname}<") for one in (there, left, lost)]
    assert places == sorted(places)
    assert "1 taken from it" in row_of(page, lost)
    assert "taken from it" not in row_of(page, left)


def test_without_workers_the_list_says_how_to_start_one(boss):
    assert "manage.py taskcontrol worker" in text_of(boss.get(WORKERS))


def test_the_list_costs_the_same_with_any_number_of_workers(boss):
    def cost() -> int:
        with CaptureQueriesContext(connection) as asked:
            boss.get(WORKERS)
        return len(asked)

    make_worker()
    make_worker(lost_at=seconds_ago(1))
    cost()  # makes the row of the dispatcher
    few = cost()
    for _ in range(10):
        make_task(Status.STARTED, worker=make_worker())
        make_worker(lost_at=seconds_ago(1))

    assert cost() == few <= 10


# One worker


def test_what_was_taken_from_a_lost_worker_is_told_with_what_became_of_it(boss):
    worker = make_worker(hostname="lost@here", lost_at=seconds_ago(5))
    again = make_task(Status.STARTED, worker=worker, job_name="Again")
    rescue(again.pk, 1, detail="its process was lost (worker lost@here)")
    often = make_task(Status.STARTED, worker=worker, job_name="Too often")
    fail(often.pk, 1, error="gone", reason="its process was lost", lost_count=4)
    other = make_task(Status.FAILED, worker=worker, job_name="By itself")

    page = text_of(boss.get(page_url(worker)))

    taken = page.split("What was taken from it")[1].split("</section>")[0]
    assert page_url(again) in taken
    assert "its process was lost (worker lost@here)" in taken
    assert ">Pending</span>" in taken
    assert page_url(often) in taken
    assert ">Failed</span>" in taken
    assert page_url(other) not in taken


def test_what_was_taken_is_for_those_who_may_see_tasks(steward):
    worker = make_worker(lost_at=seconds_ago(5))
    task = make_task(Status.STARTED, worker=worker, job_name="Secret")
    rescue(task.pk, 1, detail="its process was lost")

    assert "Secret" not in text_of(steward.get(page_url(worker)))


def test_the_memory_of_each_process_is_told(boss):
    worker = make_worker(memory_kb=1024, children=[{"pid": 77, "memory_kb": 50 * 1024}])
    make_task(Status.STARTED, worker=worker, pid=77)

    held = text_of(boss.get(page_url(worker))).split("What holds its slots")[1]

    assert "<td>50 MB</td>" in held


# Ping and drain


def test_a_ping_tells_the_answer_and_is_on_record(steward, monkeypatch):
    worker = make_worker()
    monkeypatch.setattr("taskcontrol.broker.ping", lambda hostname: 0.012)

    response = steward.post(page_url(worker, "ping"), follow=True)

    assert messages_of(response) == ["Pinged: it answered in 12 ms."]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.change_message) == (
        steward.user,
        "Pinged: it answered in 12 ms.",
    )


def test_no_answer_is_a_warning(steward, monkeypatch):
    worker = make_worker()
    monkeypatch.setattr("taskcontrol.broker.ping", lambda hostname: None)
    response = steward.post(page_url(worker, "ping"), follow=True)
    assert messages_of(response) == ["Pinged: it gave no answer."]
    assert [one.level_tag for one in response.context["messages"]] == ["warning"]

    def away(hostname):
        raise BrokerUnavailable("no route")

    monkeypatch.setattr("taskcontrol.broker.ping", away)
    response = steward.post(page_url(worker, "ping"), follow=True)
    assert messages_of(response)[0].startswith("Pinged: the broker is away")
    assert LogEntry.objects.count() == 2


def test_a_worker_is_drained_with_a_reason_once(steward):
    worker = make_worker()
    assert "Drain this worker" in text_of(steward.get(page_url(worker)))

    response = steward.post(
        page_url(worker, "drain"), {"reason": "new release"}, follow=True
    )

    assert messages_of(response) == ["Told to leave: new release"]
    worker.refresh_from_db()
    assert worker.leaving_at is not None
    page = text_of(response)
    assert ">leaving</span>" in page
    assert page_url(worker, "drain") not in page
    again = steward.post(page_url(worker, "drain"), follow=True)
    assert messages_of(again) == ["Nothing was to be done."]
    assert LogEntry.objects.get().change_message == "Told to leave: new release"


@pytest.mark.parametrize("gone", ["left_at", "lost_at"])
def test_one_that_is_gone_has_no_buttons(steward, gone):
    worker = make_worker(**{gone: seconds_ago(1)})

    page = text_of(steward.get(page_url(worker)))

    for button in ("ping", "drain"):
        assert page_url(worker, button) not in page


def test_without_the_permission_there_is_no_button(log_in):
    worker = make_worker()
    client = log_in("other", "view_worker", "control_queue", "cancel_tasklog")

    page = text_of(client.get(page_url(worker)))

    for button in ("ping", "drain"):
        assert page_url(worker, button) not in page
        assert client.post(page_url(worker, button)).status_code == 403
        assert client.get(page_url(worker, button)).status_code == 405
    worker.refresh_from_db()
    assert worker.leaving_at is None
    assert not LogEntry.objects.exists()
