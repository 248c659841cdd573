"""The screen of the schedules: words for its times, the next runs, the last ones, late ones."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from taskcontrol import schedules
from taskcontrol.models import Schedule
from taskcontrol.screens.runstrips import IN_LIST, ON_PAGE
from taskcontrol.status import Status
from tests import tasks
from tests.admin.conftest import list_url, page_url, text_of
from tests.factories import make_task, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

LIST = "/admin/taskcontrol/schedule/"


@pytest.fixture
def manager(log_in):
    """May manage schedules, and see their tasks."""
    return log_in("manager", "manage_schedule", "view_tasklog")


@pytest.fixture
def nightly():
    return schedules.create(
        tasks.nothing, cron="30 3 * * mon-fri", zone="Asia/Tokyo", name="nightly"
    )


def squares_of(page):
    """Return what a screen reader reads of each square, in order."""
    (strip,) = re.findall(r'<ol class="tc-strip".*?</ol>', page)
    return re.findall(r'<span class="tc-unseen">(.*?)</span>', strip)


def test_the_times_are_said_in_words(manager, nightly):
    said = "at 03:30 on Monday to Friday (Asia/Tokyo)"
    for url in (LIST, page_url(nightly)):
        page = text_of(manager.get(url))
        assert said in page
        assert "30 3 * * 1-5 (Asia/Tokyo)" in page


def test_the_next_five_runs_are_told_by_the_clock_of_the_schedule(manager, nightly):
    page = text_of(manager.get(page_url(nightly)))

    (told,) = re.findall(r'<ol class="tc-times">(.*?)</ol>', page)
    runs = re.findall(r'<time datetime="[^"]+">(.*?)</time>', told)
    assert len(runs) == 5
    assert all(
        re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri) [-\d]{10} 03:30 JST", at) for at in runs
    )
    assert told.count(">in ") == 5


def test_one_that_is_off_or_cannot_be_read_has_no_next_runs(manager, nightly):
    schedules.disable(nightly)
    assert "None." in text_of(manager.get(page_url(nightly)))
    PeriodicTask.objects.update(crontab=None, enabled=True)
    assert "None." in text_of(manager.get(page_url(nightly)))


# The last runs


def test_the_last_runs_are_squares_that_lead_to_their_tasks(manager, nightly):
    ends = (Status.FINISHED, Status.FAILED, Status.CANCELED, Status.STARTED)
    runs = [make_task(one, schedule="nightly") for one in ends]
    make_task(Status.FAILED, schedule="other")

    for url in (LIST, page_url(nightly)):
        page = text_of(manager.get(url))
        told = squares_of(page)
        assert [text.split(",")[0] for text in told] == [str(one) for one in ends]
        assert all(page_url(run) in page for run in runs)
        assert told[0].endswith(", 1 s")


def test_who_may_not_see_tasks_is_not_led_to_them(log_in, nightly):
    client = log_in("reader", "view_schedule")
    run = make_task(Status.FAILED, schedule="nightly")

    for url in (LIST, page_url(nightly)):
        page = text_of(client.get(url))
        assert len(squares_of(page)) == 1
        assert page_url(run) not in page


def test_only_so_many_of_the_last_runs_are_shown(manager, nightly):
    for _ in range(ON_PAGE + 2):
        make_task(Status.FINISHED, schedule="nightly")
    make_task(Status.FAILED, schedule="nightly")

    listed = squares_of(text_of(manager.get(LIST)))
    told = squares_of(text_of(manager.get(page_url(nightly))))

    assert (len(listed), len(told)) == (IN_LIST, ON_PAGE)
    assert listed[-1].startswith("Failed")


def test_one_that_never_ran_says_so(manager, nightly):
    assert "It has not run yet." in text_of(manager.get(page_url(nightly)))


# Late ones


def test_a_run_that_is_due_for_long_is_late(manager, nightly, conf):
    conf.SCHEDULE_GRACE = 60
    for due, late in ((30, False), (300, True)):
        Schedule.objects.update(next_run_at=seconds_ago(due))
        page = text_of(manager.get(page_url(nightly)))
        assert ("late</span>" in page) is late
    assert "due for 5 min" in page


def test_one_that_is_off_is_never_late(manager, nightly):
    schedules.disable(nightly)
    Schedule.objects.update(next_run_at=seconds_ago(300))
    assert "late</span>" not in text_of(manager.get(page_url(nightly)))


def test_one_that_must_lose_no_run_waits_for_its_last(manager, nightly):
    last = make_task(Status.STARTED, schedule="nightly")
    overdue = {"next_run_at": seconds_ago(300), "last_task": last, "on_missed": "all"}
    Schedule.objects.update(**overdue)

    page = text_of(manager.get(page_url(nightly)))

    assert "late</span>" not in page
    assert "due for 5 min, after its last run" in page


def test_the_list_takes_as_many_queries_for_fifty_rows_as_for_one(manager):
    counts = []
    for number in (1, 49):
        for n in range(number):
            name = f"s{number}-{n}"
            one = schedules.create(tasks.nothing, every=86400, name=name)
            run = make_task(Status.FINISHED, schedule=name)
            at = timezone.now() + timedelta(days=1)
            Schedule.objects.filter(pk=one.pk).update(last_task=run, next_run_at=at)
        manager.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            text_of(manager.get(list_url("schedule")))
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 11
