"""What ended is counted minute by minute: each end once, whoever counts and however late."""

from __future__ import annotations

import math
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import dialect, rollup
from taskcontrol.models import DispatcherState, Rollup, TaskLog
from taskcontrol.rollup import floor_to, roll_up
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task
from tests.test_lifecycle import statements
from tests.waiting import beside, eventually, race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

COUNTS = {Status.FINISHED: "finished", Status.FAILED: "failed", Status.CANCELED: "canceled"}
LONG = 60.0


@pytest.fixture(autouse=True)
def begun():
    """Counted until four hours ago; return the last minute that is over."""
    dispatcher_state()
    over = floor_to(dialect.now("default") - timedelta(seconds=rollup.SETTLES), 1)
    DispatcherState.objects.update(rolled_until=over - timedelta(hours=4))
    return over


def ended(at, status=Status.FINISHED, *, wait=0.5, run=2.0, **columns):
    """Store a task that ended ``at``, which waited and ran so many seconds."""
    begun = at - timedelta(seconds=run)
    return make_task(
        status,
        ended_at=at,
        started_at=begun,
        created_at=begun - timedelta(seconds=wait),
        time_taken=timedelta(seconds=run),
        **columns,
    )


def rows(**wanted):
    return Rollup.objects.exclude(method="").filter(**wanted).order_by("start", "method")


def totals():
    return Rollup.objects.filter(method="", queue="").order_by("start")


def queues():
    return Rollup.objects.filter(method="").exclude(queue="").order_by("start", "queue")


def counted(some):
    """Return all ends in these rows, by method, queue and status."""
    found = Counter()
    for row in some:
        for status, name in COUNTS.items():
            found[row.method, row.queue, status] += getattr(row, name)
    return +found


def histograms(some):
    return Counter(
        {
            (row.start, row.method, kind, int(number)): count
            for row in some
            for kind, histogram in (("wait", row.waits), ("run", row.runs))
            for number, count in histogram.items()
        }
    )


# What is counted


@pytest.mark.parametrize("seed", range(5))
def test_every_end_is_in_the_row_of_its_minute_type_and_queue(begun, seed):
    chance = random.Random(seed)
    expected, waits, runs = Counter(), Counter(), Counter()
    for _ in range(60):
        # Not on the edge of a bin, nor so short that milliseconds are too coarse.
        wait, run = (2 ** ((chance.randrange(20, 60) + 0.5) / 4) / 1000 for _ in range(2))
        at = begun - timedelta(seconds=chance.uniform(0.001, 100))
        status = chance.choice(list(COUNTS))
        method, queue = chance.choice(["m.a", "m.b", "M.a"]), chance.choice(["q", "r"])
        attempt = chance.choice([1, 1, 2])
        ended(at, status, wait=wait, run=run, method=method, queue=queue, attempt=attempt)
        minute = at.replace(second=0, microsecond=0)
        expected[minute, method, queue, COUNTS[status]] += 1
        runs[minute, method, "run", bin_of(run)] += 1
        if attempt == 1:
            waits[minute, method, "wait", bin_of(wait)] += 1

    roll_up(seconds=LONG)

    found = Counter(
        {
            (row.start, row.method, row.queue, name): getattr(row, name)
            for row in rows()
            for name in COUNTS.values()
        }
    )
    if connection.vendor == "mysql":  # compares without regard to case
        expected = Counter({key: n for key, n in expected.items() if "a" not in key[1]})
        found = Counter({key: n for key, n in found.items() if "a" not in key[1]})
    assert +found == expected
    by_bin = Counter()
    for row in rows():
        by_bin += histograms([row])
    if connection.vendor != "mysql":
        assert by_bin == waits + runs


def bin_of(seconds):
    return math.floor(math.log2(seconds * 1000) * 4)


def test_beside_the_types_stands_one_row_for_all(begun):
    at = begun - timedelta(seconds=30)
    for method in ("m.a", "m.b"):
        ended(at, method=method)
    ended(at, Status.FAILED, method="m.b", queue="long")

    assert roll_up(seconds=LONG) == 1

    (row,) = totals()
    assert (row.finished, row.failed, row.canceled, row.queue) == (2, 1, 0, "")
    assert sum(row.runs.values()) == sum(row.waits.values()) == 3
    assert row.run_seconds == pytest.approx(6.0)
    assert rows().count() == 3


def test_beside_the_types_stands_one_row_for_each_queue(begun):
    at = begun - timedelta(seconds=30)
    for method, queue in (("m.a", "q"), ("m.b", "q"), ("m.b", "r")):
        ended(at, method=method, queue=queue, wait=3.0)

    roll_up(seconds=LONG)

    found = [(row.queue, row.finished, row.waits) for row in queues()]
    assert found == [("q", 2, {str(bin_of(3)): 2}), ("r", 1, {str(bin_of(3)): 1})]


def test_a_failure_that_is_retried_by_itself_is_no_end_and_hides_none_behind_it(begun):
    ended(
        begun - timedelta(minutes=3, seconds=30),
        Status.FAILED,
        retry_at=begun,
        max_retries=1,
    )
    ended(begun - timedelta(seconds=30))

    roll_up(seconds=LONG)

    assert counted(totals()) == {("", "", Status.FINISHED): 1}


def test_what_never_ran_counts_without_times(begun):
    at = begun - timedelta(seconds=30)
    make_task(Status.CANCELED, ended_at=at, started_at=None, time_taken=None)

    roll_up(seconds=LONG)

    (row,) = rows()
    assert (row.canceled, row.waits, row.runs, row.run_seconds) == (1, {}, {}, 0)


def test_the_wait_begins_when_a_task_may_run(begun):
    at = begun - timedelta(seconds=30)
    ended(at, run=1, wait=3600, run_at=at - timedelta(seconds=3))

    roll_up(seconds=LONG)

    (row,) = rows()
    assert row.waits == {str(bin_of(2)): 1}


def test_the_last_minute_is_left_to_settle(begun):
    ended(begun + timedelta(seconds=1))

    assert roll_up(seconds=LONG) == 0
    assert not Rollup.objects.exists()
    assert dispatcher_state().rolled_until == begun


# Once


def test_what_is_counted_is_not_counted_again(begun):
    ended(begun - timedelta(seconds=30))

    assert [roll_up(seconds=LONG) for _ in range(3)] == [1, 0, 0]
    assert sum(row.finished for row in totals()) == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_who_count_one_wins_each_minute(begun):
    for minute in range(6):
        for _ in range(minute + 1):
            ended(begun - timedelta(minutes=minute, seconds=30))

    race(*[lambda: roll_up(seconds=LONG)] * 4)
    roll_up(seconds=LONG)

    assert [row.finished for row in totals()] == [6, 5, 4, 3, 2, 1]


def test_a_minute_that_another_has_counted_meanwhile_is_not_counted_again(
    begun, monkeypatch
):
    ended(begun - timedelta(seconds=30))
    counts, faster = rollup._counts, []

    def while_another_counts(begin, end):
        found = list(counts(begin, end))
        if not faster:
            faster.append(1)
            roll_up(seconds=LONG)
        return found

    monkeypatch.setattr(rollup, "_counts", while_another_counts)
    roll_up(seconds=LONG)

    assert sum(row.finished for row in totals()) == 1


def test_a_look_that_finds_all_counted_costs_two_queries(begun):
    roll_up(seconds=LONG)
    with CaptureQueriesContext(connection) as queries:
        assert roll_up() == 0

    assert len(statements(queries)) == 2


def test_a_minute_costs_the_same_however_much_ended_in_it(begun):
    def cost(count, minutes):
        for number in range(count):
            ended(begun - timedelta(minutes=minutes, seconds=30), method=f"m.{number}")
        DispatcherState.objects.update(rolled_until=begun - timedelta(minutes=minutes + 1))
        with CaptureQueriesContext(connection) as queries:
            assert roll_up(seconds=LONG) == 1
        return len(statements(queries))

    assert cost(1, 30) == cost(40, 20) <= 20


# Late


def test_after_a_downtime_it_catches_up_step_by_step_and_leaves_out_what_is_empty(begun):
    for minute in range(0, 200, 20):
        ended(begun - timedelta(minutes=minute, seconds=30))

    steps = 0
    while roll_up(seconds=0):
        steps += 1

    assert steps == 10
    assert sum(row.finished for row in totals()) == 10


def test_merged_too_early_a_span_takes_what_comes_late(begun):
    quarter = floor_to(begun - timedelta(hours=3), 15)
    for minute in range(15):
        ended(quarter + timedelta(minutes=minute, seconds=30))

    while roll_up(seconds=0):
        pass

    (row,) = totals()
    assert (row.start, row.minutes, row.finished) == (quarter, 15, 15)


def test_the_first_count_begins_with_what_is_shown(begun):
    DispatcherState.objects.update(rolled_until=None)
    ended(begun - timedelta(days=9))
    ended(begun - timedelta(days=7, seconds=30))
    ended(begun - timedelta(seconds=30))

    roll_up(seconds=LONG)

    assert [row.finished for row in totals()] == [1, 1]
    assert dispatcher_state().rolled_until == begun


def test_times_are_those_of_utc_whatever_the_site_shows(begun, settings):
    settings.TIME_ZONE = "America/St_Johns"
    ended(begun - timedelta(days=3, seconds=30))
    DispatcherState.objects.update(rolled_until=None)

    roll_up(seconds=LONG)

    assert totals().get().start == floor_to(begun - timedelta(days=3, seconds=30), 60)
    night = datetime(2026, 10, 25, 1, 59, 59, tzinfo=UTC)
    assert floor_to(night, 15) == datetime(2026, 10, 25, 1, 45, tzinfo=UTC)


# Old


def make_rows(begin, count, *, minutes=1, method="m"):
    Rollup.objects.bulk_create(
        Rollup(
            start=begin + timedelta(minutes=minutes * number),
            minutes=minutes,
            method=name,
            queue=name and "q",
            finished=number,
            failed=1,
            waits={"3": number, str(number): 1},
            runs={"10": 2},
            run_seconds=0.5,
        )
        for number in range(count)
        for name in ("", method)
    )


def sums(method):
    some = list(Rollup.objects.filter(method=method))
    waits = sum((Counter(row.waits) for row in some), Counter())
    return (
        sum(row.finished for row in some),
        sum(row.failed for row in some),
        +waits,
        sum(row.run_seconds for row in some),
    )


def grow_old(begun):
    ended(begun - timedelta(seconds=30), method="now")
    roll_up(seconds=LONG)
    Rollup.objects.filter(start__gte=begun - timedelta(minutes=1)).delete()


@pytest.mark.parametrize(
    ("age", "minutes", "longer"),
    [(timedelta(hours=3), 1, 15), (timedelta(days=3), 15, 60), (timedelta(days=4), 1, 60)],
)
def test_getting_coarser_keeps_every_count(begun, age, minutes, longer):
    begin = floor_to(begun - age, 60)
    make_rows(begin, 60 // minutes, minutes=minutes)
    before = sums(""), sums("m")

    grow_old(begun)

    assert (sums(""), sums("m")) == before
    assert set(Rollup.objects.values_list("minutes", flat=True)) == {longer}
    assert Rollup.objects.count() == 2 * 60 // longer


def test_what_is_young_stays_as_fine_as_it_is(begun):
    # Not the last minute of the hour: what ends now may belong to it.
    make_rows(floor_to(begun, 60) - timedelta(hours=1), 59)

    grow_old(begun)

    assert Rollup.objects.filter(minutes=1).count() == 118


def test_what_is_too_old_is_deleted(begun):
    make_rows(floor_to(begun - timedelta(days=9), 60), 2, minutes=60)
    make_rows(floor_to(begun - timedelta(days=7), 60), 2, minutes=60)

    grow_old(begun)

    assert totals().count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_many_who_merge_a_span_one_does(begun):
    make_rows(floor_to(begun - timedelta(hours=3), 60), 60)
    before = sums("m")

    race(*[lambda: rollup._grow_old(math.inf)] * 3)

    assert sums("m") == before
    assert rows().count() == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_who_merges_waits_for_who_is_at_it(begun):
    make_rows(floor_to(begun - timedelta(hours=3), 60), 60)
    before = sums("m")

    with transaction.atomic():
        DispatcherState.objects.select_for_update().get()
        with pytest.raises(TimeoutError):
            beside(lambda: rollup._grow_old(math.inf), timeout=1)

    eventually(lambda: rows().count() == 4)
    assert sums("m") == before


def test_counting_leaves_the_tasks_alone(begun):
    task = ended(begun - timedelta(seconds=30))
    before = TaskLog.objects.values().get(pk=task.pk)

    roll_up(seconds=LONG)

    assert TaskLog.objects.values().get(pk=task.pk) == before
