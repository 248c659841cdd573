"""P4: a limit that only the code knows holds from the first task on."""

from __future__ import annotations

import pytest
from django.db import transaction

from taskcontrol import registry, tasktypes
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.models import TaskLog, TaskType
from taskcontrol.registry import declare_type
from taskcontrol.status import Status
from tests.factories import make_task, make_type, make_worker
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.databases,
    pytest.mark.usefixtures("broker"),
]

M = "tests.nowhere.limited"


@pytest.fixture(autouse=True)
def declarations(monkeypatch):
    """The dispatching process has imported nothing that declares."""
    monkeypatch.setattr(registry, "declarations", {})
    monkeypatch.setattr(tasktypes, "declarations", registry.declarations)
    tasktypes.forget()


def stored():
    return TaskType.objects.get(method=M)


def test_of_a_method_that_no_process_has_looked_at_one_task_runs_at_a_time():
    make_worker(pool_size=4)
    for _ in range(3):
        make_task(method=M)

    assert dispatch_pending() == 1
    assert stored().declared is None
    assert dispatch_pending() == 0


def test_after_a_child_has_looked_the_declared_limit_holds():
    make_worker(pool_size=4)
    for _ in range(4):
        make_task(method=M)
    dispatch_pending()

    declare_type(M, concurrency_limit=3, priority=7)
    tasktypes.confirm(M)

    one = stored()
    assert (one.concurrency_limit, one.priority, one.is_standard) == (3, 7, True)
    assert dispatch_pending() == 2


def test_after_a_child_has_looked_an_undeclared_method_has_no_limit():
    make_worker(pool_size=4)
    tasks = [make_task(method=M) for _ in range(4)]
    dispatch_pending()

    tasktypes.confirm(M)

    assert stored().is_standard is False
    assert dispatch_pending() == 3
    for task in tasks:
        task.refresh_from_db()
        assert task.status == Status.QUEUED


def test_a_persons_edit_of_an_unconfirmed_type_stays():
    make_type(M, declared=None, priority=9)

    declare_type(M, concurrency_limit=2, priority=1)
    tasktypes.confirm(M)

    assert (stored().priority, stored().concurrency_limit) == (9, 2)


def test_confirming_a_known_type_changes_nothing(django_assert_num_queries):
    make_type(M, concurrency_limit=2)
    tasktypes.confirm(M)

    with django_assert_num_queries(0):
        tasktypes.confirm(M)
    assert stored().concurrency_limit == 2


@pytest.mark.only_on("postgresql", "mysql")
def test_a_type_that_somebody_is_making_stops_no_other():
    make_worker(pool_size=4)
    make_type("known")
    new, old = make_task(method="new"), make_task(method="known")

    with transaction.atomic():
        TaskType.objects.create(method="new")
        assert beside(dispatch_pending) == 1
        assert TaskLog.objects.get(pk=old.pk).status == Status.QUEUED

    assert dispatch_pending() == 1
    assert TaskLog.objects.get(pk=new.pk).status == Status.QUEUED
