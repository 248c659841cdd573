"""The screen of the queues: what flows, what is wrong, and the purge."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import dialect, toggle_dispatcher
from taskcontrol.histograms import bin_of, seconds_of
from taskcontrol.models import QueueState, Rollup, TaskEvent, TaskLog, WaitInterval
from taskcontrol.pausing import pause_all
from taskcontrol.purging import purge_queue
from taskcontrol.rollup import floor_to
from taskcontrol.screens import purgebutton
from taskcontrol.status import Status
from taskcontrol.wording import duration
from tests.admin.conftest import messages_of, page_url, text_of
from tests.factories import make_task, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

QUEUES = "/admin/taskcontrol/queuestate/"


@pytest.fixture
def long(db):
    """The queue ``long``."""
    return QueueState.objects.create(name="long")


@pytest.fixture
def keeper(log_in):
    """May pause, resume and purge queues and nothing else."""
    return log_in("keeper", "control_queue")


def row_of(page: str, name: str) -> str:
    rows = [row for row in page.split("<tr>") if f">{name}</a></th>" in row]
    assert len(rows) == 1, (name, len(rows))
    return rows[0]


# The list


def test_what_comes_and_goes_within_a_minute_is_told(boss):
    make_task(queue="short")
    for _ in range(2):
        make_task(Status.FINISHED, queue="short")

    assert "3 · 2" in row_of(text_of(boss.get(QUEUES)), "short")


def test_a_queue_out_of_the_settings_is_listed_while_it_has_work_or_a_worker(boss):
    make_task(queue="of_yesterday")
    make_worker(["of_others"])

    page = text_of(boss.get(QUEUES))

    assert ">nobody</span>" in row_of(page, "of_yesterday")
    assert "1 with 2 slots" in row_of(page, "of_others")


def test_the_wait_of_nearly_all_within_the_hour_is_told(boss, long):
    start = floor_to(dialect.now("default") - timedelta(minutes=5), 1)
    waits = {str(bin_of(2.0)): 90, str(bin_of(60.0)): 10}
    Rollup.objects.create(start=start, method="", queue="long", finished=100, waits=waits)

    page = text_of(boss.get(QUEUES))

    half, most = (duration(seconds_of(bin_of(wait))) for wait in (2.0, 60.0))
    assert f'<td class="field-wait">{most}</td>' in row_of(page, "long")
    assert '<td class="field-wait">-</td>' in row_of(page, "default")
    told = f"<dt>wait p50, p95</dt><dd>{half}, {most}</dd>"
    assert told in text_of(boss.get(page_url(long)))


def test_a_full_queue_says_that_no_more_is_taken(boss, conf, long):
    conf(QUEUES={"long": {"max_queued_jobs": 1}})
    make_task(queue="long")

    assert "the most are 1: enqueue refuses more" in row_of(
        text_of(boss.get(QUEUES)), "long"
    )
    assert "max_queued_jobs is reached (1)" in text_of(boss.get(page_url(long)))


def test_a_pause_says_why_and_until_when_in_the_list(boss, long):
    pause_all(long, reason="<b>disk</b>", until=seconds_ago(-3600))

    row = row_of(text_of(boss.get(QUEUES)), "long")

    assert ">Paused</span>" in row
    assert "&lt;b&gt;disk&lt;/b&gt;" in row
    assert "until <time" in row


def test_the_list_costs_the_same_with_any_number_of_queues(boss, conf):
    conf(QUEUES={f"q{number}": {} for number in range(20)})
    for number in range(20):
        make_task(queue=f"q{number}")
        make_worker([f"q{number}"])
    boss.get(QUEUES)

    with CaptureQueriesContext(connection) as asked:
        page = text_of(boss.get(QUEUES))

    assert "q19" in page
    # Who asks (2), the banner, the flow (9), the rows with their count (3), the waits (2).
    assert len(asked) <= 17, [one["sql"][:90] for one in asked]


def test_a_queue_that_only_a_pause_knows_is_listed_too(boss):
    QueueState.objects.create(name="of_yesterday", paused_at=seconds_ago(5))

    assert ">Paused</span>" in row_of(text_of(boss.get(QUEUES)), "of_yesterday")


# One queue


def test_a_queue_shows_its_flow_its_workers_and_its_pauses(boss, long):
    worker = make_worker(["long"], pool_size=3)
    task = make_task(queue="long", created_at=seconds_ago(3700))
    make_task(Status.STARTED, queue="long")
    pause_all(long, reason="disk full", user=make_user("ann", "control_queue"))

    response = boss.get(page_url(long))

    page = text_of(response)
    facts = {str(name): str(value) for name, value in response.context["facts"]}
    assert ">1</a>" in facts["waiting"]
    assert page_url(task) in facts["oldest waits"]
    assert "1 h 1 min" in facts["oldest waits"]
    assert facts["running"] == "1"
    assert page_url(worker) in facts["workers"]
    pauses = page.split("<h2>Pauses</h2>")[1]
    assert "ann" in pauses
    assert "disk full" in pauses
    assert WaitInterval.objects.count() == 1


def test_a_queue_that_nobody_serves_says_what_to_start(boss, long):
    make_task(queue="long")

    page = text_of(boss.get(page_url(long)))

    assert "manage.py taskcontrol worker --queue long" in page


def test_links_to_workers_are_for_those_who_may_see_them(keeper, long):
    worker = make_worker(["long"], hostname="w@<here>")

    page = text_of(keeper.get(page_url(long)))

    assert "w@&lt;here&gt;" in page
    assert page_url(worker) not in page


# The purge


def test_a_purge_wants_the_name_of_the_queue_typed(keeper, long):
    make_task(queue="long")
    assert "Type long to confirm" in text_of(keeper.get(page_url(long)))

    for typed in ({}, {"name": "short"}, {"name": "LONG"}):
        response = keeper.post(page_url(long, "purge"), typed, follow=True)
        assert messages_of(response) == [
            "Type the name of the queue, long, to purge it. Nothing was canceled."
        ]

    assert TaskLog.objects.get().status == Status.PENDING
    assert not LogEntry.objects.exists()


def test_a_purge_cancels_what_waits_and_is_on_record(keeper, long):
    waiting = make_task(queue="long")
    running = make_task(Status.STARTED, queue="long")

    response = keeper.post(
        page_url(long, "purge"), {"name": "long", "reason": "wrong import"}, follow=True
    )

    assert messages_of(response) == ["Purged, 1 canceled: wrong import"]
    waiting.refresh_from_db()
    assert (waiting.status, waiting.ended_reason) == (Status.CANCELED, "wrong import")
    assert waiting.canceled_by == keeper.user
    assert TaskEvent.objects.get(task=waiting).actor == keeper.user
    running.refresh_from_db()
    assert running.status == Status.STARTED
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (keeper.user, "long")
    assert entry.change_message == "Purged, 1 canceled: wrong import"


@pytest.mark.parametrize(
    ("suspended", "when"), [(False, ""), (True, ", once the dispatcher is resumed")]
)
def test_a_purge_of_many_is_a_task_in_another_queue(
    keeper, long, monkeypatch, suspended, when
):
    monkeypatch.setattr(purgebutton, "MOST_AT_ONCE", 1)
    toggle_dispatcher(enable=not suspended)
    make_worker(["long", "default"])
    for _ in range(2):
        make_task(queue="long")

    response = keeper.post(page_url(long, "purge"), {"name": "long"}, follow=True)

    task = TaskLog.objects.get(method="taskcontrol.purging.purge_as_task")
    assert (task.queue, task.created_by, task.at_front) == ("default", keeper.user, True)
    told = f"Purge asked for: task {task.pk} cancels what waits now{when}."
    assert messages_of(response) == [told]
    assert LogEntry.objects.get().change_message == told
    assert TaskLog.objects.filter(queue="long", status=Status.PENDING).count() == 2


@pytest.mark.parametrize(
    ("workers", "goes_to"),
    [
        ({"default": {}}, "default"),
        ({"default": {}, "long": {}}, "long"),
        ({"default": {}, "long": {"last_seen_at": seconds_ago(600)}}, "default"),
        ({"default": {}, "long": {"leaving_at": seconds_ago(1)}}, "default"),
        ({"default": {}, "long": {"lost_at": seconds_ago(1)}}, "default"),
        ({}, "short"),
    ],
)
def test_a_purge_of_many_waits_where_a_live_worker_takes_it(
    keeper, monkeypatch, workers, goes_to
):
    monkeypatch.setattr(purgebutton, "MOST_AT_ONCE", 1)
    queue = QueueState.objects.create(name="default")
    for name, columns in workers.items():
        make_worker([name], **columns)
    for _ in range(2):
        make_task(queue="default")

    keeper.post(page_url(queue, "purge"), {"name": "default"})

    task = TaskLog.objects.get(method="taskcontrol.purging.purge_as_task")
    assert task.queue == goes_to
    purge_queue("default", up_to=task.arguments["up_to"])
    assert TaskLog.objects.get(status=Status.PENDING) == task


def test_a_purge_of_many_goes_round_a_paused_queue_and_over_its_own_limit(
    keeper, long, conf, monkeypatch
):
    monkeypatch.setattr(purgebutton, "MOST_AT_ONCE", 1)
    conf(QUEUES={"long": {"max_queued_jobs": 1}})
    make_worker(["long", "default"])
    QueueState.objects.create(name="default", paused_at=seconds_ago(5))
    for _ in range(2):
        make_task(queue="long")

    keeper.post(page_url(long, "purge"), {"name": "long"})

    task = TaskLog.objects.get(method="taskcontrol.purging.purge_as_task")
    assert task.queue == "long"


def test_nothing_waits_so_nothing_is_purged(keeper, long):
    assert page_url(long, "purge") not in text_of(keeper.get(page_url(long)))

    response = keeper.post(page_url(long, "purge"), {"name": "long"}, follow=True)

    assert messages_of(response) == ["Nothing was to be done."]
    assert not LogEntry.objects.exists()


def test_a_purge_that_fails_leaves_no_trace(keeper, long, monkeypatch):
    make_task(queue="long")
    monkeypatch.setattr("taskcontrol.audit._write", lambda *given: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        keeper.post(page_url(long, "purge"), {"name": "long"})

    assert TaskLog.objects.get().status == Status.PENDING


@pytest.mark.parametrize("role", ["view_queuestate", "cancel_tasklog"])
def test_without_the_permission_there_is_no_purge(log_in, long, role):
    make_task(queue="long")
    client = log_in("other", "view_queuestate", role)

    assert page_url(long, "purge") not in text_of(client.get(page_url(long)))
    assert client.post(page_url(long, "purge"), {"name": "long"}).status_code == 403
    assert client.get(page_url(long, "purge")).status_code == 405
    assert TaskLog.objects.get().status == Status.PENDING
