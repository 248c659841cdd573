"""A call reads what it needs of the ledger once, however many tasks it stores."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from taskcontrol.enqueueing import bulk_enqueue
from taskcontrol.models import TaskLog
from tests import tasks
from tests.factories import make_task

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def selects(call):
    with CaptureQueriesContext(connection) as asked:
        call()
    return [one["sql"] for one in asked if one["sql"].startswith("SELECT")]


def test_a_bulk_looks_at_each_line_once(conf, monkeypatch):
    monkeypatch.setattr("taskcontrol.enqueueing.CHUNK", 2)
    conf(STARVED_AFTER=2, MAX_QUEUED_JOBS=100)
    for _ in range(3):
        make_task(queue="short")
    members = [{"queue": queue} for queue in ("short", "long") * 3]

    asked = selects(
        lambda: bulk_enqueue(members, method=tasks.nothing, at_front_when_starved=True)
    )

    # Twice for each queue: whether it is starved, and whether it is full.
    assert len([sql for sql in asked if "COUNT(" in sql]) == 4
    # What the bulk itself adds makes no line for its own tasks.
    fronts = TaskLog.objects.exclude(batch_id=None).values_list("queue", "at_front")
    assert set(fronts) == {("short", True), ("long", False)}


def test_a_bulk_that_comes_after_a_task_looks_for_it_once():
    first = make_task()

    few = selects(lambda: bulk_enqueue([{}] * 2, method=tasks.nothing, after=first))
    many = selects(lambda: bulk_enqueue([{}] * 20, method=tasks.nothing, after=first))

    assert len(many) <= len(few)
    assert TaskLog.objects.filter(after=first).count() == 22
