"""Statements that are compiled once give the same answers as those of the ORM."""

from __future__ import annotations

import pytest
from django.db import (
    connection,
)
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from taskcontrol.dialect import DatabaseNow
from taskcontrol.models import TaskLog, seconds
from taskcontrol.prepared import PreparedMove, PreparedQuery
from tests.factories import make_task, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

RENAME = PreparedMove(
    TaskLog,
    ("rev", "job_name", "result"),
    lambda p: (
        TaskLog.objects.filter(pk=p("id", "id")),
        {
            "job_name": p("name", "job_name"),
            "result": p("kept", "result"),
            "rev": F("rev") + 1,
        },
    ),
)
NEVER = PreparedMove(
    TaskLog, ("rev",), lambda p: (TaskLog.objects.filter(pk__in=[]), {"rev": 5})
)


@pytest.mark.parametrize("value", [None, [], {"a": [1, None]}, "text", 5], ids=str)
def test_a_move_takes_other_values_each_time(value):
    first, second = make_task(), make_task()

    for number, task in enumerate((first, second)):
        (moved,) = RENAME.run(
            "default", {"id": task.pk, "name": f"n{number}", "kept": value}
        )
        assert (moved.pk, moved.job_name, moved.rev) == (task.pk, f"n{number}", 1)

    rows = TaskLog.objects.order_by("pk").values_list("job_name", "result")
    assert list(rows) == [("n0", value), ("n1", value)]


@pytest.mark.parametrize("name", ["100%", "%s", "it's", 'a "b"', "\\"])
def test_a_value_is_a_value_whatever_it_looks_like(name):
    task = make_task()

    RENAME.run("default", {"id": task.pk, "name": name, "kept": None})

    task.refresh_from_db()
    assert task.job_name == name


def test_a_move_of_nothing_returns_nothing():
    make_task()

    assert RENAME.run("default", {"id": -1, "name": "n", "kept": None}) == []
    assert NEVER.run("default", {}) == []


@pytest.mark.only_on("postgresql", "sqlite")
def test_a_move_is_one_statement():
    task = make_task()

    with CaptureQueriesContext(connection) as queries:
        RENAME.run("default", {"id": task.pk, "name": "n", "kept": None})

    assert len(queries) == 1


def test_a_move_names_only_columns():
    wrong = PreparedMove(
        TaskLog, ("rev",), lambda p: (TaskLog.objects.all(), {"rev": p("n", "events")})
    )

    with pytest.raises(TypeError, match="events is no column"):
        wrong.run("default", {"n": 1})


def test_a_query_is_built_once_for_each_value_that_it_depends_on():
    built = []

    def build():
        built.append(1)
        old = DatabaseNow() - seconds(limit)
        return TaskLog.objects.filter(created_at__lt=old).values_list("pk")

    make_task(created_at=seconds_ago(50))
    query = PreparedQuery(build)

    for limit, expected in ((10, 1), (10, 1), (100, 0), (100, 0)):
        assert len(query.rows("default", limit)) == expected

    assert len(built) == 2
