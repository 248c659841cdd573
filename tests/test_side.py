"""The second connection: beside the body's, in the same database."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from taskcontrol import side
from taskcontrol.conf import conf
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import TaskBatch, TaskKey, TaskLog
from tests import tasks
from tests.factories import make_task, make_user
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


def test_it_leads_to_the_same_database_by_another_connection():
    task = make_task()

    alias = side.side_database()

    assert alias != "default"
    assert TaskLog.objects.using(alias).get() == task
    assert connections[alias].connection is not connection.connection


def test_what_it_writes_stays_when_the_body_rolls_back():
    task = make_task()

    with transaction.atomic():
        if connection.vendor != "sqlite":
            TaskLog.objects.using(side.side_database()).update(event="beside")
        transaction.set_rollback(True)

    task.refresh_from_db()
    assert task.event == ("" if connection.vendor == "sqlite" else "beside")


def test_it_makes_itself_with_the_address_of_the_database(monkeypatch):
    known = {
        name: value for name, value in connections.settings.items() if name == "default"
    }
    monkeypatch.setattr(connections, "settings", known)

    alias = side.side_database()

    assert connections.settings[alias]["NAME"] == connection.settings_dict["NAME"]
    assert side.side_database() == alias


@pytest.mark.only_on("sqlite")
def test_on_sqlite_the_bodys_connection_serves_within_its_transaction():
    with transaction.atomic():
        assert side.side_database() == "default"
    assert side.side_database() != "default"


def test_it_is_made_once_and_closed_when_asked():
    alias = side.side_database()
    TaskLog.objects.using(alias).exists()
    session = connections[alias].connection
    assert side.side_database() == alias
    assert connections[alias].connection is session

    side.close_side_connection()

    assert connections[alias].connection is None
    assert TaskLog.objects.using(side.side_database()).exists() is False


# Storing a task apart


@pytest.mark.only_on("postgresql", "mysql")
def test_a_task_stored_apart_outlives_the_rollback_with_all_that_belongs_to_it():
    with transaction.atomic():
        make_user("gone")
        task = enqueue(
            tasks.nothing,
            enqueue_after_commit=False,
            batch_id="b",
            job_id="j",
            deduplicate=True,
        )
        assert beside(lambda: TaskLog.objects.filter(pk=task.pk).exists())
        transaction.set_rollback(True)

    assert TaskLog.objects.get().pk == task.pk
    assert TaskBatch.objects.get().total == 1
    assert TaskKey.objects.get().task_id == task.pk
    assert not User.objects.exists()
    assert conf.DATABASE == "default"


@pytest.mark.only_on("postgresql", "mysql")
def test_a_bulk_can_be_stored_apart_as_a_whole():
    with transaction.atomic():
        bulk_enqueue([{}] * 3, method=tasks.nothing, enqueue_after_commit=False)
        transaction.set_rollback(True)

    assert TaskLog.objects.count() == 3


def test_some_tasks_of_a_bulk_cannot_be_stored_apart():
    with pytest.raises(InvalidCall, match="holds for all tasks of bulk_enqueue"):
        bulk_enqueue([{}, {"enqueue_after_commit": False}], method=tasks.nothing)

    assert not TaskLog.objects.exists()


@pytest.mark.only_on("sqlite")
def test_on_sqlite_a_task_cannot_be_stored_apart_from_a_transaction():
    with (
        transaction.atomic(),
        pytest.raises(InvalidCall, match="would wait for your transaction"),
    ):
        enqueue(tasks.nothing, enqueue_after_commit=False)

    assert not TaskLog.objects.exists()


def test_without_a_transaction_it_is_stored_as_always():
    task = enqueue(tasks.nothing, enqueue_after_commit=False)

    assert TaskLog.objects.using("default").get() == task


@pytest.mark.only_on("postgresql", "mysql")
def test_what_the_callers_own_transaction_holds_is_waited_for_a_moment_only(settings):
    settings.TASKCONTROL = {**settings.TASKCONTROL, "KEY_WAIT": 1}
    with transaction.atomic():
        bulk_enqueue([{}], "b", method=tasks.nothing)
        with pytest.raises(InvalidCall, match="waited 1 s for what another transaction"):
            enqueue(tasks.nothing, batch_id="b", enqueue_after_commit=False)
