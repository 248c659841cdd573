"""What ended lately is told of all and of one type, from the rollup alone."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol import dialect, figures
from taskcontrol.histograms import bin_of
from taskcontrol.models import Rollup
from taskcontrol.rollup import floor_to

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def make_row(age, method="m", *, queue="q", minutes=1, run=None, **columns):
    """Store a row of the span that began so many minutes ago, as a whole one."""
    start = floor_to(dialect.now("default") - timedelta(minutes=age), minutes)
    runs = {} if run is None else {str(bin_of(run)): 10}
    return Rollup.objects.create(
        start=start,
        minutes=minutes,
        method=method,
        queue=queue,
        runs=runs,
        **{"waits": {"4": 1}, **columns},
    )


def test_the_figures_of_a_type_are_those_of_its_last_hours():
    make_row(5, finished=7, failed=1, run=2.0)
    make_row(5, queue="r", finished=1, canceled=4)
    make_row(300, minutes=15, failed=1, run=60.0)
    make_row(60 * 30, minutes=15, failed=100)
    make_row(5, "other", failed=1000)
    make_row(5, "", queue="", failed=10_000)

    found = figures.figures("m")

    assert (found.finished, found.failed, found.canceled, found.ended) == (8, 2, 4, 14)
    assert found.failed_percent == 20
    assert found.run(50) == pytest.approx(2, rel=0.1)
    assert found.run(95) == pytest.approx(60, rel=0.1)
    assert found.wait(50) == pytest.approx(0.002, rel=0.1)
    assert figures.figures("m", queue="r").finished == 1
    assert figures.figures("m", hours=1).failed == 1


def test_of_a_type_that_did_nothing_the_figures_are_empty():
    found = figures.figures("m")

    assert (found.ended, found.failed_percent) == (0, 0)
    assert found.wait(50) is found.run(95) is None


def test_several_types_are_asked_at_once():
    for method in ("a", "b", "c"):
        make_row(5, method, finished=3)
    with CaptureQueriesContext(connection) as queries:
        found = figures.figures_of(["a", "b", "unseen"])

    assert {method: one.finished for method, one in found.items()} == {"a": 3, "b": 3}
    assert len(queries) == 2  # the clock, and the rows


def test_queues_are_told_apart_in_one_query():
    make_row(5, "", queue="q", waits={str(bin_of(9.0)): 10})
    make_row(50, "", queue="q", finished=4)
    make_row(70, "", queue="q", finished=100)
    make_row(5, "", queue="r", finished=2)
    make_row(5, "", queue="", finished=1000)
    make_row(5, "m", queue="q", finished=1000)

    with CaptureQueriesContext(connection) as queries:
        found = figures.figures_of_queues(["q", "r", "unseen"])

    assert {name: one.finished for name, one in found.items()} == {"q": 4, "r": 2}
    assert found["q"].wait(95) == pytest.approx(9, rel=0.1)
    assert len(queries) == 2  # the clock, and the rows


def test_all_types_are_counted_by_the_database():
    make_row(5, "a", finished=3, run_seconds=6)
    make_row(90, "a", failed=2)
    make_row(5, "b", canceled=1)
    make_row(5, "", queue="", finished=3)

    found = figures.all_types(hours=2)

    assert found == {
        "a": figures.Figures(finished=3, failed=2, run_seconds=6),
        "b": figures.Figures(canceled=1),
    }


def test_a_series_has_every_span_also_the_empty_ones_and_the_last_holds_now():
    make_row(0, "", queue="", finished=1)
    make_row(40, "", queue="", finished=2, run=3.0)
    make_row(41, "", queue="", failed=3)
    make_row(60 * 10, "", queue="", finished=1000)

    spans = figures.series(12, 10)

    now = dialect.now("default")
    assert len(spans) == 12
    assert spans[-1].begin <= now < spans[-1].end
    assert all(one.end == two.begin for one, two in pairwise(spans))
    whole = figures.total(spans)
    assert (whole.finished, whole.failed) == (3, 3)
    assert whole.run(50) == pytest.approx(3, rel=0.1)
