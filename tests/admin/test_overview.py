"""The front page: tasks by status, what is alive, what ended lately and where it leads."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import dialect
from taskcontrol.histograms import bin_of
from taskcontrol.models import DispatcherState, QueueState, Rollup, TaskLog
from taskcontrol.rollup import floor_to, roll_up
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.admin.conftest import list_url, page_url, text_of
from tests.factories import make_task, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

FRONT = "/admin/taskcontrol/"


@pytest.fixture
def state(db):
    """The one row of the dispatcher."""
    return dispatcher_state()


@pytest.fixture
def overseer(log_in):
    """Sees the machinery and no task."""
    return log_in("overseer", "view_dispatcherstate")


def rolled(age=5, method="m", *, queue="default", **columns):
    """Store what one type did in a minute, with the row of all types beside it."""
    start = floor_to(dialect.now("default") - timedelta(minutes=age), 1)
    seconds = columns.pop("run", 2.0)
    bins = {"waits": {str(bin_of(0.5)): 10}, "runs": {str(bin_of(seconds)): 10}}
    columns = {"finished": 10, "run_seconds": 10 * seconds, **bins, **columns}
    for name, line in ((method, queue), ("", "")):
        Rollup.objects.create(start=start, method=name, queue=line, **columns)
    return start


def charts(client, period="1h"):
    return client.get(FRONT, {"period": period}).context["charts"]


def chart(client, name, period="1h"):
    return next(one for one in charts(client, period).drawn if one.name == name)


def listed(client, url):
    """Return the tasks of a list that a link leads to."""
    response = client.get(unescape(url))
    assert response.status_code == 200
    return set(response.context["cl"].result_list)


# Cards


def test_the_front_page_counts_all_tasks_by_status(viewer):
    for status in Status:
        make_task(status)
    make_task(Status.FAILED)

    cards = viewer.get(FRONT).context["cards"]

    numbers = {card["kind"]: card["number"] for card in cards}
    assert numbers == {
        status.lower(): "2" if status == "Failed" else "1" for status in Status
    }
    assert "status__exact=Failed" in text_of(viewer.get(FRONT))


def test_more_finished_tasks_than_are_counted_read_as_at_least(viewer, monkeypatch):
    monkeypatch.setattr("taskcontrol.screens.overview.MOST_COUNTED", 2)
    for _ in range(3):
        make_task(Status.FINISHED)

    assert '<span class="tc-number">2+</span>' in text_of(viewer.get(FRONT))


def test_staff_without_a_permission_sees_the_own_numbers_and_no_machinery(staff):
    make_task(created_by=staff.user)
    make_task()

    response = staff.get(FRONT)

    assert [card["number"] for card in response.context["cards"] if card["some"]] == ["1"]
    assert "Your own tasks:" in text_of(response)
    assert not response.context["signs"]


# Health


def signs_of(client):
    """Return the signs by name; Redis is not that of the run in each test."""
    signs = {sign.name: sign for sign in client.get(FRONT).context["signs"]}
    assert signs.pop("Redis").word in {"answers", "no answer"}
    return signs


def test_what_is_dead_is_visible(viewer, state):
    make_task(queue="long")

    signs = signs_of(viewer)

    told = {name: (sign.word, sign.good) for name, sign in signs.items()}
    assert told == {
        "Lost workers": ("none", True),
        "Incidents": ("none", True),
        "Sweeps": ("in time", True),
        "Last pass": ("never", False),
        "Workers": ("none", False),
        "Queues": ("without a worker", False),
        "Beat": ("never seen", False),
        "Broker": ("reachable", True),
    }
    assert signs["Queues"].detail == "long"


def test_what_is_late_or_silent_is_visible(viewer, state):
    make_worker()
    make_worker(last_seen_at=seconds_ago(60))
    QueueState.objects.create(name="long", paused_at=seconds_ago(5))
    DispatcherState.objects.update(
        last_pass_at=seconds_ago(99), beat_seen_at=seconds_ago(99), broker_error="no route"
    )

    make_worker(hostname="gone@here", lost_at=seconds_ago(600))
    make_worker(hostname="forgotten@here", lost_at=seconds_ago(7200))
    make_task(Status.FAILED, retry_at=seconds_ago(90), max_retries=2)
    DispatcherState.objects.update(rolled_until=seconds_ago(600))

    signs = signs_of(viewer)

    told = {name: (sign.word, sign.good) for name, sign in signs.items()}
    assert told == {
        "Lost workers": ("1 within the hour", False),
        "Incidents": ("none", True),
        "Sweeps": ("late", False),
        "Last pass": ("late", False),
        "Workers": ("1 live", False),
        "Queues": ("paused", False),
        "Beat": ("silent", False),
        "Broker": ("unreachable", False),
    }
    assert signs["Broker"].detail == "no route"
    assert signs["Lost workers"].detail == "gone@here"
    assert signs["Sweeps"].detail == (
        "retries are due and not made; 1 silent worker is not declared lost; "
        "what ended is not counted, so the charts end early"
    )


def test_a_beat_is_not_called_silent_while_every_slot_is_taken(viewer, state):
    worker = make_worker(pool_size=1)
    DispatcherState.objects.update(beat_seen_at=seconds_ago(99))
    assert signs_of(viewer)["Beat"].word == "silent"

    make_task(Status.STARTED, worker=worker)

    beat = signs_of(viewer)["Beat"]
    assert (beat.word, beat.good) == ("not heard", True)
    assert "waits for a free slot" in beat.detail


def test_when_all_is_well_everything_says_so(viewer, state):
    make_worker()
    DispatcherState.objects.update(
        last_pass_at=seconds_ago(0.5), beat_seen_at=seconds_ago(5)
    )

    response = viewer.get(FRONT)

    assert all(sign.good for sign in signs_of(viewer).values())
    assert "0 of 2 slots taken" in text_of(response)


def test_the_front_page_takes_as_many_queries_for_many_tasks_as_for_one(viewer, state):
    counts = []
    for number in (1, 30):
        for n in range(number):
            make_task(list(Status)[n % 7])
            make_worker()
        viewer.get(FRONT)
        with CaptureQueriesContext(connection) as queries:
            text_of(viewer.get(FRONT))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 35


def test_the_front_page_is_free_of_inline_script_and_style(boss, state):
    TaskLog.objects.all().delete()
    page = text_of(boss.get(FRONT))

    # A block of data runs nothing.
    scripts = r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>\s*\S"
    assert not re.search(scripts, page)
    assert " style=" not in page


def test_redis_is_asked_and_a_page_without_it_is_a_page(viewer, state, broker, conf):
    def redis():
        signs = viewer.get(FRONT).context["signs"]
        return next((sign.word, sign.good) for sign in signs if sign.name == "Redis")

    assert redis() == ("answers", True)
    conf(REDIS_URL="redis://127.0.0.1:1/0")
    assert redis() == ("no answer", False)


def test_without_redis_none_is_missed(viewer, state, conf, settings):
    conf(REDIS_URL=None)
    settings.CELERY_BROKER_URL = "amqp://"
    signs = {sign.name: sign for sign in viewer.get(FRONT).context["signs"]}

    assert (signs["Redis"].word, signs["Redis"].good) == ("not used", True)


# Charts


@pytest.mark.parametrize("period", ["1h", "24h", "7d", "nonsense"])
def test_every_bar_leads_to_the_tasks_that_it_counts(viewer, state, period):
    at = dialect.now("default") - timedelta(minutes=3)
    within = [
        make_task(status, ended_at=at, started_at=at, time_taken=timedelta(seconds=1))
        for status in (Status.FINISHED, Status.FAILED, Status.CANCELED)
    ]
    make_task(Status.FINISHED, ended_at=at - timedelta(days=1, hours=4))
    make_task(Status.FAILED, ended_at=at, retry_at=at, max_retries=1)
    make_task()
    roll_up(seconds=60)

    drawn = {one.name: one for one in charts(viewer, period).drawn}

    assert listed(viewer, drawn["throughput"].bars[-1].url) == set(within)
    assert listed(viewer, drawn["failures"].bars[-1].url) == {within[1]}
    assert [piece.kind for piece in drawn["throughput"].bars[-1].pieces] == [
        "finished",
        "failed",
        "canceled",
    ]
    if period != "7d":
        assert len(drawn["failures"].bars) == 1


def test_a_chart_says_in_words_what_it_shows(viewer, state):
    rolled(5, finished=8, failed=2, canceled=1)
    rolled(7, finished=0, failed=10, run=60.0)

    said = {one.name: one.said for one in charts(viewer).drawn}

    assert said == {
        "throughput": "21 ended: 8 finished, 12 failed, 1 canceled.",
        "failures": "12 failed for good, 60 % of those that were not canceled.",
        "wait": "Half began within 0.5 s, 95 % within 0.5 s.",
        "run": "Half ran up to 1.9 s, 95 % up to 1 min.",
    }
    page = text_of(viewer.get(FRONT))
    assert all(text in page for text in said.values())


def test_the_highest_bar_fills_the_chart_and_what_is_little_stays_visible(viewer, state):
    rolled(5, finished=1000)
    rolled(4, finished=1)

    high, low = chart(viewer, "throughput").bars

    assert (high.pieces[0].y, high.pieces[0].height) == (0, 100)
    assert low.pieces[0].height >= 2


def test_all_numbers_stand_in_a_table_too(viewer, state):
    rolled(5, finished=7, failed=3)

    (line,) = charts(viewer).lines

    assert (line.figures.finished, line.figures.failed) == (7, 3)
    assert (line.wait, line.run) == (("0.5 s", "0.5 s"), ("1.9 s", "1.9 s"))
    assert parse_qs(urlsplit(line.url).query)["ended"]


def test_a_period_shows_what_lies_in_it_and_no_more(viewer, state):
    rolled(5, finished=1)
    rolled(90, finished=2)
    Rollup.objects.create(
        start=floor_to(seconds_ago(3 * 86400), 60), minutes=60, finished=4
    )

    numbers = {key: charts(viewer, key).whole.finished for key in ("1h", "24h", "7d")}

    assert numbers == {"1h": 1, "24h": 3, "7d": 7}


def test_the_chosen_period_is_marked(viewer, state):
    page = text_of(viewer.get(FRONT, {"period": "24h"}))

    assert re.findall(r'href="\?period=(\w+)" aria-current="true"', page) == ["24h"]


def test_a_site_where_nothing_ended_says_so(viewer, state):
    page = text_of(viewer.get(FRONT))

    assert "Nothing ended in this time." in page
    assert "<svg" not in page.split('data-tc-live="charts"')[1].split("</section>")[0]


def test_the_list_behind_a_bar_costs_no_more_than_any_list(viewer, state):
    for _ in range(30):
        make_task(Status.FINISHED, ended_at=seconds_ago(150))
    roll_up(seconds=60)
    url = unescape(chart(viewer, "throughput").bars[0].url)
    with CaptureQueriesContext(connection) as queries:
        assert len(listed(viewer, url)) == 30

    assert len(queries) <= 10


def test_nonsense_for_a_span_shows_nothing_and_breaks_nothing(viewer):
    make_task(Status.FINISHED)
    for span in ("x", "..", "2026-11-22T10:05Z", "a..b", "1..2..3", "2026-11-22T10:05Z..é"):
        assert not viewer.get(list_url(), {"ended": span}).context["cl"].result_list


def test_a_span_can_be_taken_off_the_list_again(viewer):
    span = "2026-11-22T10:05Z..2026-11-22T10:06Z"
    page = text_of(viewer.get(list_url(), {"ended": span}))

    assert "2026-11-22 10:05 - 10:06" in page
    assert "By ended" in page
    assert "By ended" not in text_of(viewer.get(list_url()))


# Types


def test_the_types_that_fail_most_and_take_longest_lead_to_their_tasks(viewer, state):
    rolled(5, "shop.good", finished=10, run=60.0)
    rolled(6, "shop.bad", finished=5, failed=5, run=0.5)
    rolled(7, "shop.worse", finished=1, failed=9, run=2.0)
    failed = make_task(Status.FAILED, method="shop.worse", ended_at=seconds_ago(60))
    make_task(Status.FINISHED, method="shop.worse", ended_at=seconds_ago(60))

    context = viewer.get(FRONT).context

    failing, slowest = context["failing"], context["slowest"]
    assert [row.method for row in failing] == ["shop.worse", "shop.bad"]
    assert [row.percent for row in failing] == ["90 %", "50 %"]
    assert [row.method for row in slowest] == ["shop.good", "shop.worse", "shop.bad"]
    assert (slowest[0].mean, slowest[0].run[1]) == ("1 min", "1 min")
    assert listed(viewer, failing[0].failed_url) == {failed}
    assert len(listed(viewer, slowest[1].url)) == 2


def test_of_many_types_the_first_are_shown(viewer, state):
    for number in range(9):
        rolled(number + 2, f"m.{number}", failed=number + 1)

    context = viewer.get(FRONT).context

    assert [row.method for row in context["failing"]] == [f"m.{n}" for n in (8, 7, 6, 5, 4)]
    assert len(context["slowest"]) == 5


# Queues


def test_the_queues_tell_their_depth_their_oldest_and_who_serves_them(viewer, state):
    make_worker(queues=["default"], pool_size=4)
    first = make_task(created_at=seconds_ago(125))
    make_task(Status.QUEUED)
    make_task(Status.STARTED)
    make_task(queue="long")
    QueueState.objects.create(name="default", paused_at=seconds_ago(5))

    rows = {row["name"]: row for row in viewer.get(FRONT).context["queues"]}
    page = text_of(viewer.get(FRONT))

    default, long = rows["default"], rows["long"]
    assert (default["depth"], default["running"], default["paused"]) == ("2", "1", True)
    assert default["rates"] == "3 · 0"
    assert (default["workers"], default["slots"]) == (1, 4)
    assert (default["oldest"], default["oldest_url"]) == ("2 min", page_url(first))
    assert (long["depth"], long["unserved"]) == ("1", True)
    assert len(listed(viewer, long["url"])) == 1
    assert "1 worker, 4 slots" in page


def test_a_line_is_counted_no_further_than_a_page_needs(viewer, state, monkeypatch):
    monkeypatch.setattr("taskcontrol.flow.MOST_COUNTED", 2)
    for _ in range(4):
        make_task(queue="long")

    rows = {row["name"]: row for row in viewer.get(FRONT).context["queues"]}

    assert (rows["long"]["depth"], rows["default"]["depth"]) == ("2+", "0")


# Who sees what


def test_the_overseer_sees_the_queues_and_nothing_that_leads_to_tasks(overseer, state):
    rolled(5, "secret.method", failed=3)
    task = make_task(queue="long")

    response = overseer.get(FRONT)
    page = text_of(response)

    assert "charts" not in response.context
    assert "secret.method" not in page
    assert page_url(task) not in page
    assert {row["name"] for row in response.context["queues"]} >= {"long"}


def test_staff_without_a_permission_sees_no_chart_and_no_queue(staff, state):
    rolled(5, "secret.method", failed=3)

    response = staff.get(FRONT)

    assert not any(name in response.context for name in ("charts", "queues", "failing"))
    assert "secret.method" not in text_of(response)


# Live


@pytest.mark.parametrize("region", ["cards", "health", "queues", "charts"])
def test_an_open_page_gets_the_regions_that_it_asks_for_and_pays_for_no_other(
    viewer, state, region
):
    rolled(5)
    with CaptureQueriesContext(connection) as all_queries:
        whole = text_of(viewer.get(FRONT))
    with CaptureQueriesContext(connection) as queries:
        page = text_of(viewer.get(FRONT, headers={"X-Taskcontrol-Regions": region}))

    assert re.findall(r'data-tc-live="(\w+)"', page) == [region]
    assert set(re.findall(r'data-tc-live="(\w+)"', whole)) == {
        "cards",
        "health",
        "queues",
        "charts",
    }
    assert len(queries) < len(all_queries)
