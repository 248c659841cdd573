"""What a run of each type usually takes is learned from the runs that ended lately."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import measures
from taskcontrol.models import DispatcherState, TaskType
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_type, seconds_ago
from tests.test_lifecycle import statements
from tests.waiting import beside, race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


@pytest.fixture(autouse=True)
def it_is_time():
    dispatcher_state()
    DispatcherState.objects.update(learned_at=None)


def ran(*taken, method="m", age=1, status=Status.FINISHED):
    for seconds in taken:
        make_task(
            status,
            method=method,
            ended_at=seconds_ago(age),
            time_taken=timedelta(seconds=seconds),
        )


def usual(method="m"):
    return TaskType.objects.get(method=method).usual_seconds


def test_the_first_runs_tell_what_is_usual():
    make_type("m")
    ran(0.1, 0.3)

    assert measures.learn() == 1

    assert usual() == pytest.approx((0.2 + 0.3) / 2)


def test_later_runs_move_it_slowly():
    make_type("m", usual_seconds=1.0)
    ran(2.0, status=Status.FAILED)

    measures.learn()

    assert usual() == pytest.approx(1.3)


def test_one_long_run_among_short_ones_is_not_lost_in_the_mean():
    make_type("m")
    ran(*[0.01] * 20, 10)

    measures.learn()

    assert usual() > 5


@pytest.mark.parametrize(
    "columns",
    [{"age": 15}, {"method": "unknown"}],
    ids=str,
)
def test_old_runs_and_unknown_methods_teach_nothing(columns):
    make_type("m")
    ran(5, **columns)

    assert measures.learn() == 0
    assert usual() is None


def test_what_never_ran_teaches_nothing():
    make_type("m")
    make_task(Status.CANCELED, method="m", time_taken=None, ended_at=seconds_ago(1))

    assert measures.learn() == 0


def test_within_some_seconds_it_is_learned_once():
    make_type("m")
    ran(1)
    assert measures.learn() == 1

    assert measures.learn() == 0

    DispatcherState.objects.update(learned_at=seconds_ago(6))
    assert measures.learn() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_processes_one_learns():
    make_type("m", usual_seconds=1.0)
    ran(2.0)

    assert sorted(race(*[measures.learn] * 5)) == [0, 0, 0, 0, 1]
    assert usual() == pytest.approx(1.3)


def test_many_types_cost_as_much_as_one():
    def cost(count):
        for number in range(count):
            make_type(f"{count}.{number}")
            ran(1, method=f"{count}.{number}")
        DispatcherState.objects.update(learned_at=None)
        with CaptureQueriesContext(connection) as queries:
            assert measures.learn() >= count
        return len(statements(queries))

    assert cost(1) == cost(30)


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_type_that_somebody_is_changing_learns_the_next_time():
    held = make_type("m")
    make_type("n")
    ran(1.0)
    ran(1.0, method="n")

    with transaction.atomic():
        assert TaskType.objects.select_for_update().get(pk=held.pk)
        assert beside(measures.learn) == 1

    assert (usual("m"), usual("n")) == (None, 1.0)
