"""The second connection: beside the body's, in the same database."""

from __future__ import annotations

import pytest
from django.db import connection, connections, transaction

from taskcontrol import side
from taskcontrol.models import TaskLog
from tests.factories import make_task

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
