"""The last runs of a type on the page of its task: drawn small, told in words, read by an index."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol.screens.sparkline import MOST_RUNS, sparkline_of
from taskcontrol.status import Status
from tests.admin.conftest import page_url, text_of
from tests.factories import make_task, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

BAR = re.compile(
    r'<rect class="tc-fill-(\w+)" x="(\d+)" y="([\d.]+)"[^>]*height="([\d.]+)"'
)


def ran(seconds: float, ago: float, **columns):
    """Store a task that ran so long and ended ``ago`` seconds before now."""
    took = timedelta(seconds=seconds)
    return make_task(Status.FINISHED, time_taken=took, ended_at=seconds_ago(ago), **columns)


def test_the_runs_stand_in_their_order_the_own_one_in_another_color(viewer):
    ran(10, 30)
    task = ran(5, 20)
    ran(0, 10)
    ran(1000, 5, method="other")
    make_task(Status.FAILED, time_taken=timedelta(seconds=1000))

    page = text_of(viewer.get(page_url(task)))

    bars = [(kind, x, height) for kind, x, _y, height in BAR.findall(page)]
    assert bars == [
        ("finished", "0", "20.0"),
        ("started", "3", "10.0"),
        ("finished", "6", "1.0"),
    ]
    told = "The last 3 runs of its type, the newest last: 0 s to 10 s, this one 5 s"
    assert f'role="img" aria-label="{told}"' in page
    assert "0 s to 10 s</span>" in page


def test_a_task_that_waits_sees_what_its_type_usually_takes(viewer):
    for seconds in (1, 3):
        ran(seconds, seconds)

    page = text_of(viewer.get(page_url(make_task())))

    assert 'aria-label="The last 2 runs of its type, the newest last: 1 s to 3 s"' in page


def test_one_run_alone_is_not_drawn(viewer):
    assert "tc-fill" not in text_of(viewer.get(page_url(ran(3, 1))))


def test_only_the_last_are_drawn(viewer):
    for number in range(MOST_RUNS + 2):
        ran(1 + number, 100 - number)

    page = text_of(viewer.get(page_url(make_task())))

    assert len(BAR.findall(page)) == MOST_RUNS
    assert "3 s to 32 s" in page


def test_the_runs_of_others_are_for_those_who_see_them(staff):
    for seconds in (1, 3):
        ran(seconds, seconds)
    task = make_task(created_by=staff.user)

    assert "tc-fill" not in text_of(staff.get(page_url(task)))


@pytest.mark.only_on("postgresql")
def test_the_runs_come_from_the_end_of_an_index(boss):
    for seconds in (1, 3):
        ran(seconds, seconds)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
    with CaptureQueriesContext(connection) as asked:
        assert sparkline_of(make_task(), boss.user)

    (sql,) = [
        one["sql"] for one in asked if "time_taken" in one["sql"] and "LIMIT" in one["sql"]
    ]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}")
        plan = json.dumps(cursor.fetchone()[0])
    assert "taskcontrol_task_kept" in plan
    assert '"Sort"' not in plan
