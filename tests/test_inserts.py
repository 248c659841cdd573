"""Rows that are stored without the ORM stand as the ORM would have stored them."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Value
from django.db.models.signals import post_save
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext

from taskcontrol import side
from taskcontrol.dialect import DatabaseNow
from taskcontrol.inserts import PreparedInsert
from taskcontrol.models import TaskLog, TaskType
from taskcontrol.status import Status

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

INSERT = PreparedInsert(TaskLog)


def columns_of(task):
    """Return what stands in the row, without what is its own alone."""
    (row,) = TaskLog.objects.filter(pk=task.pk).values()
    return {
        name: value
        for name, value in row.items()
        if name not in {"id", "position", "created_at"}
    }


def a_task(**values):
    return TaskLog(**{"method": "m", "job_name": "m", "lane": 5, **values})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"arguments": {"a": [1, None, "é", 0.5, True]}, "options": {"atomic": True}},
        {"status": Status.PAUSED, "at_front": True, "batch_order": -5},
        {"job_name": "100% 'quoted' \"twice\" \\ %s", "event": ""},
        {"retry_delay": 0.25, "timeout": 7, "priority": -3, "max_retries": 0},
        {"run_at": dt.datetime(2031, 5, 1, 12, 0, 0, 123456, dt.UTC)},
        {"time_taken": dt.timedelta(seconds=1.5), "progress": [], "result": ""},
        {"lane": -(2**63), "ready_lane": 2**63 - 1},
    ],
    ids=lambda values: ",".join(values) or "nothing",
)
def test_an_insert_stores_what_the_orm_stores(values):
    by_orm, by_us = a_task(**values), a_task(**values)

    by_orm.save(force_insert=True)
    with CaptureQueriesContext(connection) as queries:
        INSERT.run("default", by_us)

    assert len(queries) == 1
    assert columns_of(by_us) == columns_of(by_orm)
    assert (by_us._state.adding, by_us._state.db) == (False, "default")


def test_after_an_insert_the_row_is_as_stored():
    task = a_task()

    INSERT.run("default", task)

    stored = TaskLog.objects.get(pk=task.pk)
    for field in TaskLog._meta.concrete_fields:
        assert getattr(task, field.attname) == getattr(stored, field.attname), field.name


def test_an_insert_with_an_expression_is_read_back():
    task = a_task(run_at=DatabaseNow() + dt.timedelta(hours=1), event=Value("label"))

    INSERT.run("default", task)

    stored = TaskLog.objects.get(pk=task.pk)
    assert (task.run_at, task.event) == (stored.run_at, stored.event)
    assert stored.event == "label"


def test_an_insert_keeps_a_key_and_a_place_that_were_given():
    task = a_task(pk=7_000_001, position=17)

    INSERT.run("default", task)

    assert TaskLog.objects.get(pk=7_000_001).position == 17


def test_receivers_of_the_model_are_told_of_an_insert_or_refuse_it():
    told = []

    def receiver(instance, created, **_):
        told.append((instance.pk, created))
        if instance.event == "bad":
            raise ValueError("refused")

    task = a_task()
    post_save.connect(receiver, sender=TaskLog)
    try:
        INSERT.run("default", task)
        with transaction.atomic(), pytest.raises(ValueError, match="refused"):
            INSERT.run("default", a_task(event="bad"))
    finally:
        post_save.disconnect(receiver, sender=TaskLog)

    assert told[0] == (task.pk, True)


@pytest.mark.refused
@pytest.mark.parametrize("values", [{"pk": 7_000_001}, {"attempt": -1}], ids=str)
def test_an_insert_that_is_refused_breaks_the_transaction_round_it_as_ever(values):
    """One with a key goes by the ORM, the other by us."""
    INSERT.run("default", a_task(pk=7_000_001))

    with transaction.atomic():
        with pytest.raises(DatabaseError):
            INSERT.run("default", a_task(**values))
        with pytest.raises(TransactionManagementError):
            TaskLog.objects.count()

    assert TaskLog.objects.count() == 1


@pytest.mark.only_on("sqlite")
def test_where_an_insert_returns_nothing_the_orm_stores_the_row(monkeypatch):
    monkeypatch.setattr(connection.features, "can_return_columns_from_insert", False)

    with CaptureQueriesContext(connection) as queries:
        task = a_task()
        INSERT.run("default", task)

    assert not any("RETURNING" in one["sql"] for one in queries)
    assert TaskLog.objects.get().pk == task.pk


def test_a_model_of_another_shape_is_inserted_too():
    one = TaskType(method="a.b", backoff={"factor": 2}, description="it's 5%")

    PreparedInsert(TaskType).run("default", one)

    stored = TaskType.objects.get(method="a.b")
    assert (stored.pk, stored.backoff, stored.declared) == (one.pk, {"factor": 2}, {})
    assert stored.description == "it's 5%"


# Many

#: What COPY writes in ways of its own.
NASTY = [
    "tab\t newline\n return\r",
    "\\N",
    "\\.",
    "\\",
    "%s 100%",
    'it\'s "x"',
    "\u2028 é \U0001f600",
    " ",
]


def some_rows():
    return [
        a_task(),
        a_task(arguments={"a": [1, None, "é", 0.5, True, NASTY]}, options={"atomic": True}),
        a_task(status=Status.PAUSED, at_front=True, batch_order=-5, batch_id="b"),
        a_task(retry_delay=0.25, timeout=7, priority=-3, lane=-(2**63)),
        a_task(run_at=dt.datetime(2031, 5, 1, 12, 0, 0, 123456, dt.UTC)),
        a_task(time_taken=dt.timedelta(days=2, seconds=1.5), progress=[], result=""),
        a_task(result=None, progress="x", debug_log="\n".join(NASTY)),
        *(a_task(job_name=text, event=text, job_id=text) for text in NASTY),
    ]


def stored_in_order():
    return [columns_of(task) for task in TaskLog.objects.order_by("pk")]


def test_many_are_stored_as_the_orm_stores_them():
    TaskLog.objects.bulk_create(some_rows())
    by_orm = stored_in_order()
    TaskLog.objects.all().delete()

    with CaptureQueriesContext(connection) as queries:
        INSERT.run_many("default", some_rows())

    assert len([one for one in queries if "SAVEPOINT" not in one["sql"]]) == 1
    assert stored_in_order() == by_orm


def test_a_time_and_a_place_that_all_rows_give_are_kept():
    made = dt.datetime(2031, 5, 1, 12, 0, 0, 5, dt.UTC)

    INSERT.run_many("default", [a_task(created_at=made, position=n) for n in range(3)])

    rows = TaskLog.objects.order_by("pk").values_list("created_at", "position")
    assert list(rows) == [(made, n) for n in range(3)]


def test_a_time_and_a_place_that_no_row_gives_are_computed():
    INSERT.run_many("default", [a_task(), a_task()])

    for task in TaskLog.objects.all():
        assert task.created_at
        assert task.position > 1e15


def test_none_at_all_are_stored_too():
    INSERT.run_many("default", [])

    assert not TaskLog.objects.exists()


@pytest.mark.refused
def test_many_of_which_one_is_refused_are_none():
    with pytest.raises(DatabaseError), transaction.atomic():
        INSERT.run_many("default", [a_task(celery_task_id="x"), a_task(celery_task_id="x")])

    assert not TaskLog.objects.exists()


@pytest.mark.refused
@pytest.mark.django_db(transaction=True)
def test_without_a_transaction_too_many_of_which_one_is_refused_are_none():
    with pytest.raises(DatabaseError):
        INSERT.run_many("default", [a_task(celery_task_id="x"), a_task(celery_task_id="x")])

    assert not TaskLog.objects.exists()


@pytest.mark.refused
def test_many_that_are_refused_break_the_transaction_round_them_as_ever():
    with transaction.atomic():
        with pytest.raises(DatabaseError):
            INSERT.run_many("default", [a_task(celery_task_id="x") for _ in range(2)])
        with pytest.raises(TransactionManagementError):
            TaskLog.objects.count()


# Prepared by the server


@pytest.fixture
def preparing(monkeypatch):
    """The second connection, with settings that allow prepared statements."""
    one = connections[side.side_database()]
    one.close()
    options = {**one.settings_dict["OPTIONS"], "prepare_threshold": 0}
    monkeypatch.setitem(one.settings_dict, "OPTIONS", options)
    yield one
    one.close()


def prepared_on(one):
    with one.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return [sql for (sql,) in cursor.fetchall() if sql.startswith("INSERT")]


@pytest.mark.only_on("postgresql")
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_the_server_prepares_an_insert_where_the_settings_allow_it(preparing):
    tasks = [a_task(arguments={"n": n}, priority=n, lane=10**n) for n in range(3)]
    with CaptureQueriesContext(preparing) as queries:
        for task in tasks:
            INSERT.run(preparing.alias, task)

    assert [columns_of(task)["arguments"] for task in tasks] == [{"n": n} for n in range(3)]
    assert len(queries) == 3
    assert len(prepared_on(preparing)) == 1


@pytest.mark.only_on("postgresql")
def test_nothing_is_prepared_where_the_settings_do_not_say_so():
    INSERT.run("default", a_task())

    assert prepared_on(connection) == []


@pytest.mark.only_on("postgresql")
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_new_connection_prepares_anew(preparing):
    for _ in range(2):
        INSERT.run(preparing.alias, a_task())
        assert len(prepared_on(preparing)) == 1
        preparing.close()

    assert TaskLog.objects.count() == 2
