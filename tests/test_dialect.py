"""What differs between the databases must give the same answers on all of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Case, CharField, F, Value, When
from django.db.models.functions import Cast, Concat
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from taskcontrol.dialect import (
    DatabaseNow,
    microseconds_now,
    now,
    skip_locked,
    together,
    update_returning,
)
from taskcontrol.models import TaskLog, seconds
from taskcontrol.status import Status
from tests.factories import make_task, seconds_ago
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

A_MOMENT = timedelta(seconds=2)


# The clock


def test_the_clock_of_the_database_tells_utc():
    told = now("default")

    assert told.utcoffset() == timedelta(0)
    assert abs(told - timezone.now()) < A_MOMENT


def test_a_time_written_by_the_database_is_read_as_utc():
    task = make_task()
    TaskLog.objects.filter(pk=task.pk).update(run_at=DatabaseNow(), ready_lane=None)

    task.refresh_from_db()
    assert abs(task.run_at - timezone.now()) < A_MOMENT
    assert abs(task.created_at - timezone.now()) < A_MOMENT


@pytest.mark.parametrize("age", [-3600, -1, 1, 3600])
def test_times_of_python_and_of_the_database_can_be_compared(age):
    make_task(run_at=seconds_ago(age))

    assert TaskLog.objects.filter(run_at__lte=DatabaseNow()).exists() is (age > 0)


@pytest.mark.parametrize("age", [-3600, -1, 1, 3600])
def test_a_time_without_a_fraction_can_be_compared(age):
    make_task(run_at=seconds_ago(age).replace(microsecond=0))

    assert TaskLog.objects.filter(run_at__lte=DatabaseNow()).exists() is (age > 0)


@pytest.mark.parametrize("later", [0.25, 1, 61, 86400])
def test_a_time_moved_by_seconds_comes_back_moved(later):
    task = make_task()
    before = now("default")

    TaskLog.objects.filter(pk=task.pk).update(
        run_at=DatabaseNow() + seconds(later), ready_lane=None
    )

    task.refresh_from_db()
    assert timedelta(0) <= task.run_at - before - seconds(later) < A_MOMENT


def test_a_time_moved_by_seconds_can_be_compared():
    make_task(run_at=seconds_ago(30))

    assert TaskLog.objects.filter(run_at__gt=DatabaseNow() - seconds(31)).exists()
    assert not TaskLog.objects.filter(run_at__gt=DatabaseNow() - seconds(29)).exists()
    assert TaskLog.objects.filter(run_at__lt=DatabaseNow() + seconds(1)).exists()


def test_the_clock_goes_on_within_a_transaction():
    with transaction.atomic():
        first = now("default")
        while (second := now("default")) == first:
            pass

    assert second > first


def test_microseconds_are_the_same_clock():
    before, told, after = now("default"), microseconds_now("default"), now("default")

    # SQLite's clocks count milliseconds.
    assert before.timestamp() - 0.002 <= told / 1_000_000 <= after.timestamp() + 0.002


def test_places_in_the_line_are_given_in_the_order_of_the_inserts():
    places = [make_task().position for _ in range(20)]

    assert places == sorted(places)


# Updates that return


def test_an_update_returns_what_it_changed_with_the_columns_asked_for():
    first, second, other = make_task(), make_task(), make_task(method="tests.tasks.add")

    changed = update_returning(
        TaskLog.objects.filter(method="tests.tasks.nothing"),
        {"job_name": "changed", "rev": F("rev") + 1},
        ("rev", "queue"),
    )

    assert {(one.pk, one.rev, one.queue) for one in changed} == {
        (first.pk, 1, "default"),
        (second.pk, 1, "default"),
    }
    other.refresh_from_db()
    assert other.job_name != "changed"


def test_what_an_update_returns_costs_no_further_query():
    make_task()

    (changed,) = update_returning(TaskLog.objects.all(), {"rev": 5}, ("rev", "queue"))

    with CaptureQueriesContext(connection) as queries:
        assert (changed.pk, changed.rev, changed.queue) is not None
    assert list(queries) == []


@pytest.mark.only_on("postgresql", "sqlite")
def test_an_update_that_returns_is_one_statement():
    make_task()

    with CaptureQueriesContext(connection) as queries:
        update_returning(TaskLog.objects.filter(rev=0), {"rev": 1}, ("rev",))

    assert len(queries) == 1


def test_an_update_of_nothing_returns_nothing():
    assert update_returning(TaskLog.objects.filter(pk=0), {"rev": 1}, ("rev",)) == []
    assert update_returning(TaskLog.objects.filter(pk__in=[]), {"rev": 1}, ("rev",)) == []


def test_an_update_whose_condition_it_makes_untrue_still_returns_the_rows():
    task = make_task()

    changed = update_returning(
        TaskLog.objects.filter(status=Status.PENDING),
        {"status": Status.PAUSED, "ready_lane": None},
        ("status",),
    )

    assert [(one.pk, one.status) for one in changed] == [(task.pk, Status.PAUSED)]


def test_every_value_of_an_update_is_computed_from_the_row_as_it_was():
    make_task(attempt=3)
    number = Cast(F("attempt") + 1, CharField())

    (changed,) = update_returning(
        TaskLog.objects.all(),
        {
            "attempt": F("attempt") + 1,
            "celery_task_id": Concat(Value("site-"), number),
            "event": Case(
                When(attempt=3, then=Value("as it was")), default=Value("as it became")
            ),
        },
        ("attempt", "celery_task_id", "event"),
    )

    assert (changed.attempt, changed.celery_task_id, changed.event) == (
        4,
        "site-4",
        "as it was",
    )


def test_dates_and_json_come_back_as_python_values():
    make_task()

    (changed,) = update_returning(
        TaskLog.objects.all(),
        {"sent_at": DatabaseNow(), "result": {"a": [1, None]}, "at_front": True},
        ("sent_at", "result", "at_front"),
    )

    assert abs(changed.sent_at - timezone.now()) < A_MOMENT
    assert changed.result == {"a": [1, None]}
    assert changed.at_front is True


@pytest.mark.django_db(transaction=True)
def test_of_two_conditional_updates_one_wins():
    task = make_task()

    def take():
        return update_returning(
            TaskLog.objects.filter(pk=task.pk, rev=0), {"rev": F("rev") + 1}, ("rev",)
        )

    won = [len(rows) for rows in race(*[take] * 8)]

    assert sum(won) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_row_that_another_transaction_holds_is_left_out():
    held, free = make_task(), make_task()
    seen: list[int] = []

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=held.pk)

        def look():
            with transaction.atomic():
                rows = skip_locked(TaskLog.objects.order_by("pk"))
                return seen.extend(rows.values_list("pk", flat=True))

        assert race(look) == [None]

    assert seen == [free.pk]


@pytest.mark.only_on("sqlite")
def test_where_rows_are_not_locked_none_is_left_out():
    task = make_task()

    assert list(skip_locked(TaskLog.objects.all())) == [task]


@pytest.mark.parametrize("tasks", [0, 1, 3])
def test_several_reads_give_their_rows_each_in_its_order(tasks):
    made = [make_task(method=f"m.{number}", at_front=True).pk for number in range(tasks)]
    table = TaskLog._meta.db_table
    ones = f"SELECT id, method, at_front, priority FROM {table} ORDER BY id"
    named = f"SELECT method FROM {table} WHERE id >= %s ORDER BY id DESC"

    first, second = together("default", [(ones, []), (named, [0])])

    expected = [(pk, f"m.{number}", True, None) for number, pk in enumerate(made)]
    assert [(pk, method, bool(front), own) for pk, method, front, own in first] == expected
    assert second == [(f"m.{number}",) for number in reversed(range(tasks))]


@pytest.mark.only_on("postgresql")
def test_several_reads_are_one_statement():
    with CaptureQueriesContext(connection) as queries:
        assert together("default", [("SELECT 1 AS a", []), ("SELECT 2 AS b", [])]) == [
            [(1,)],
            [(2,)],
        ]

    assert len(queries) == 1
