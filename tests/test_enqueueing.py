"""enqueue stores one row in the caller's transaction, or says what is wrong with the call."""

from __future__ import annotations

import datetime as dt
import inspect
import math
import re
import tracemalloc
from decimal import Decimal

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import taskcontrol
from taskcontrol import bell, dialect, enqueueing, options
from taskcontrol.arguments import decode
from taskcontrol.context import acting_as
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.exceptions import (
    ArgumentsNotSerializable,
    ArgumentsTooLarge,
    InvalidCall,
    MethodNotAllowed,
    MethodNotCallable,
    UnknownQueue,
)
from taskcontrol.lanes import lane_of
from taskcontrol.models import TaskBatch, TaskEvent, TaskLog, TaskType
from taskcontrol.shorthands import enqueue_doc
from taskcontrol.signature import DEFAULTS, OPTIONS
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_type, make_user
from tests.test_lifecycle import statements

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def named(queue=None, priority=None, at_front=None, batch_id=None, max_retries=None):
    """Has parameters with the names of options."""
    return [queue, priority, at_front, batch_id, max_retries]


def options_taken(**kwargs):
    """Takes anything."""
    return kwargs


@pytest.fixture
def rings(monkeypatch):
    """How often the bell was rung."""
    rung = []
    monkeypatch.setattr(bell, "ring", lambda: rung.append(1))
    return rung


# The row


def test_a_task_waits_with_what_the_call_said():
    user = make_user("ann")

    task = enqueue(
        tasks.add,
        left=1,
        right=Decimal(2),
        queue="long",
        timeout=70,
        job_name="A sum",
        max_retries=2,
        retry_delay=1.5,
        at_front=True,
        priority=-3,
        job_id="mine",
        event="nightly",
        created_by=user,
    )

    row = TaskLog.objects.values().get(pk=task.pk)
    expected = {
        "method": "tests.tasks.add",
        "job_name": "A sum",
        "queue": "long",
        "timeout": 70,
        "status": "Pending",
        "at_front": True,
        "max_retries": 2,
        "retry_delay": 1.5,
        "retry_count": 0,
        "priority": -3,
        "job_id": "mine",
        "event": "nightly",
        "created_by_id": user.pk,
        "attempt": 0,
        "occupies": False,
        "lane": lane_of("long", "tests.tasks.add", -3),
        "ready_lane": lane_of("long", "tests.tasks.add", -3),
        "batch_id": None,
        "options": {},
        "rev": 0,
    }
    assert {name: row[name] for name in expected} == expected
    assert decode(row["arguments"]) == {"left": 1, "right": Decimal(2)}


def test_the_returned_row_is_as_stored():
    task = enqueue(tasks.nothing, run_at=dt.timedelta(minutes=1), expires=dt.timedelta(1))

    stored = TaskLog.objects.get(pk=task.pk)
    for field in TaskLog._meta.concrete_fields:
        assert getattr(task, field.attname) == getattr(stored, field.attname), field.name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (tasks.nothing, "tests.tasks.nothing"),
        ("tests.tasks.nothing", "tests.tasks.nothing"),
        (tasks.celery_add, "tests.tasks.celery_add"),
    ],
    ids=["function", "path", "celery"],
)
def test_a_method_may_be_a_function_a_path_or_a_celery_task(method, path):
    given = {"left": 1, "right": 2} if "add" in path else {}

    assert enqueue(method, arguments=given).method == path


def test_the_label_is_the_method_unless_one_is_given():
    assert enqueue(tasks.nothing).job_name == "tests.tasks.nothing"
    assert enqueue(tasks.nothing, job_name="n\0" + "x" * 400).job_name == "n\ufffd" + (
        "x" * 298
    )


def test_enqueue_writes_no_type_and_no_event():
    before = TaskType.objects.count()

    enqueue(tasks.nothing)

    assert TaskType.objects.count() == before
    assert not TaskEvent.objects.exists()


# Cost


@pytest.mark.parametrize("more", [{}, {"paused": True}, {"created_by": None}])
def test_enqueue_is_one_insert(more):
    enqueue(tasks.nothing)  # reads the types, which are remembered

    with CaptureQueriesContext(connection) as queries:
        enqueue(tasks.give_back, value={"a": 1}, **more)

    wanted = 1 if connection.features.can_return_columns_from_insert else 2
    assert len(statements(queries)) == wanted
    assert statements(queries)[0].startswith("INSERT INTO")


@pytest.mark.only_on("postgresql", "mysql")
def test_bulk_enqueue_is_one_insert_for_each_thousand_rows(monkeypatch):
    monkeypatch.setattr(enqueueing, "CHUNK", 100)
    enqueue(tasks.nothing)

    with CaptureQueriesContext(connection) as queries:
        bulk_enqueue({"method": tasks.nothing} for _ in range(250))

    inserts = [sql for sql in statements(queries) if "taskcontrol_tasklog" in sql]
    assert len(inserts) == 3
    # On MariaDB two of them need a second one that reads what they wrote.
    others = 6 if connection.vendor == "mysql" else 4
    assert len(statements(queries)) - len(inserts) <= others


# Whose values hold


def test_the_call_beats_the_type_and_the_type_beats_the_queue(conf):
    conf(QUEUES={"slow": {"timeout": 900}})
    make_type("tests.tasks.nothing", queue="slow", max_retries=4, retry_delay=2)

    of_queue = enqueue(tasks.nothing)
    TaskType.objects.get(method="tests.tasks.nothing").save()
    assert (of_queue.queue, of_queue.timeout, of_queue.max_retries) == ("slow", 900, 4)
    assert of_queue.retry_delay == 2

    kind = TaskType.objects.get(method="tests.tasks.nothing")
    kind.timeout = 50
    kind.save()
    assert enqueue(tasks.nothing).timeout == 50

    said = enqueue(tasks.nothing, queue="short", timeout=9, max_retries=0, retry_delay=0)
    assert (said.queue, said.timeout, said.max_retries, said.retry_delay) == (
        "short",
        9,
        0,
        0.0,
    )


@pytest.mark.parametrize(
    ("queue", "timeout"), [("short", 300), ("default", 300), ("long", 1500)]
)
def test_each_standard_queue_has_its_timeout(queue, timeout):
    assert enqueue(tasks.nothing, queue=queue).timeout == timeout


def test_the_priority_of_the_type_is_not_copied():
    make_type("tests.tasks.nothing", priority=9)

    assert enqueue(tasks.nothing).priority is None


def test_a_celery_task_keeps_its_own_number_of_retries():
    asks = enqueue(tasks.celery_retry)
    told = enqueue(tasks.celery_retry, max_retries=5)

    assert (asks.max_retries, asks.options) == (2, {"retry_when_asked": True})
    assert (told.max_retries, told.options) == (5, {})


# Who


def test_the_creator_is_the_current_user_unless_said():
    ann, bob = make_user("ann"), make_user("bob")

    with acting_as(ann):
        assert enqueue(tasks.nothing).created_by == ann
        assert enqueue(tasks.nothing, created_by=bob).created_by == bob
        assert enqueue(tasks.nothing, created_by=None).created_by is None
    assert enqueue(tasks.nothing).created_by is None


@pytest.mark.parametrize("nobody", [None, AnonymousUser()])
def test_nobody_is_stored_as_nobody(nobody):
    with acting_as(nobody):
        assert enqueue(tasks.nothing).created_by is None


@pytest.mark.parametrize("user", [User(username="unsaved"), "ann", 5])
def test_a_creator_that_is_no_saved_user_is_refused(user):
    with pytest.raises(InvalidCall, match="saved user"):
        enqueue(tasks.nothing, created_by=user)


# When


@pytest.mark.parametrize(
    "run_at", [dt.timedelta(minutes=-5), dt.timedelta(0), dt.timedelta(hours=3)]
)
def test_a_time_from_now_counts_from_the_databases_now(run_at):
    task = enqueue(tasks.nothing, run_at=run_at)

    assert abs(task.run_at - dialect.now("default") - run_at) < dt.timedelta(seconds=2)
    assert task.ready_lane is None


def test_a_point_in_time_is_stored_as_given():
    at = timezone.now() + dt.timedelta(days=2)

    task = enqueue(tasks.nothing, run_at=at, expires=at)

    task.refresh_from_db()
    assert (task.run_at, task.expires_at, task.status) == (at, at, Status.PENDING)


def test_a_paused_task_stands_in_no_lane():
    task = enqueue(tasks.nothing, paused=True)

    assert (task.status, task.ready_lane) == (Status.PAUSED, None)


def test_positions_grow_with_time():
    positions = [enqueue(tasks.nothing).pk for _ in range(5)]

    rows = TaskLog.objects.order_by("position", "pk").values_list("pk", flat=True)
    assert list(rows) == positions


# The bell


def test_the_bell_rings_after_the_commit(rings, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        enqueue(tasks.nothing)
        assert rings == []
    assert rings == [1]


def test_a_bulk_call_rings_once(rings, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        bulk_enqueue({"method": tasks.nothing} for _ in range(20))

    assert rings == [1]


def test_a_paused_task_rings_no_bell(rings, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        enqueue(tasks.nothing, paused=True)

    assert rings == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bulk", [False, True], ids=["one", "bulk"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_rolled_back_enqueue_leaves_nothing_p2(bulk, depth, rings):
    def within_blocks(left):
        with transaction.atomic():
            if left:
                within_blocks(left - 1)
            elif bulk:
                bulk_enqueue([{"method": tasks.nothing}] * 3, batch_id="b")
            else:
                enqueue(tasks.nothing, batch_id="b")
            if left == depth - 1:
                transaction.set_rollback(True)

    # The rollback happens in the outermost block, in the innermost or between.
    with transaction.atomic():
        kept = enqueue(tasks.nothing)
        within_blocks(2)

    assert list(TaskLog.objects.values_list("pk", flat=True)) == [kept.pk]
    assert not TaskBatch.objects.exists()
    assert rings == [1]


@pytest.mark.django_db(transaction=True)
def test_an_error_after_the_enqueue_leaves_nothing_p2(rings):
    def view():
        with transaction.atomic():
            enqueue(tasks.nothing)
            raise ValueError("the caller's own")

    with pytest.raises(ValueError, match="own"):
        view()

    assert not TaskLog.objects.exists()
    assert rings == []


@pytest.mark.django_db(transaction=True)
def test_a_refused_enqueue_does_not_break_the_callers_transaction():
    with transaction.atomic():
        first = enqueue(tasks.nothing)
        for wrong in ({"timeout": 2**40}, {"batch_order": 2**40}, {"queue": "x"}):
            with pytest.raises(InvalidCall):
                enqueue(tasks.nothing, **wrong)
        second = enqueue(tasks.nothing)

    assert set(TaskLog.objects.values_list("pk", flat=True)) == {first.pk, second.pk}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", [transaction.commit, transaction.rollback])
def test_a_caller_who_commits_by_himself_may_enqueue_and_roll_back_p2(end, rings):
    transaction.set_autocommit(False)
    try:
        enqueue(tasks.nothing)
        assert rings == []
    finally:
        end()
        transaction.set_autocommit(True)

    stored = int(end is transaction.commit)
    assert TaskLog.objects.count() == len(rings) == stored


# What is refused


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -5}, "timeout"),
        ({"timeout": 0.4}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "60"}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"timeout": math.inf}, "timeout"),
        ({"timeout": 2**31}, "timeout"),
        ({"timeout": dt.timedelta(0)}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": 32768}, "max_retries"),
        ({"max_retries": 1.0}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"retry_delay": -0.1}, "retry_delay"),
        ({"retry_delay": math.nan}, "retry_delay"),
        ({"retry_delay": math.inf}, "retry_delay"),
        ({"retry_delay": "1"}, "retry_delay"),
        ({"priority": 1001}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"priority": False}, "priority"),
        ({"run_at": dt.datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"run_at": dt.date(2030, 1, 1)}, "run_at must be a datetime"),
        ({"run_at": 5}, "run_at must be a datetime"),
        ({"run_at": dt.timedelta.max}, "ten years"),
        ({"expires": "tomorrow"}, "expires"),
        ({"job_id": "x" * 256}, "job_id"),
        ({"job_id": "a\0"}, "job_id"),
        ({"batch_id": "x" * 141}, "batch_id"),
        ({"batch_id": "\ud800"}, "batch_id"),
        ({"event": "x" * 141}, "event"),
        ({"batch_order": 2**31}, "batch_order"),
        ({"batch_order": "first"}, "batch_order"),
        ({"arguments": [1]}, "arguments must be a dict"),
        ({"arguments": {1: 2}}, "is a text, not 1"),
        ({"arguments": {"nowhere": 2}}, "cannot be called"),
        ({"nowhere": 2}, "cannot be called"),
        ({"tc_secret": 2}, "reserved"),
    ],
    ids=str,
)
def test_an_option_that_cannot_hold_is_refused(wrong, why):
    with pytest.raises(InvalidCall, match=why):
        enqueue(tasks.nothing, **wrong)

    assert not TaskLog.objects.exists()


@pytest.mark.parametrize("queue", ["nowhere", "", 5, ["short"]], ids=str)
def test_an_unknown_queue_is_refused_with_those_there_are(queue):
    with pytest.raises(UnknownQueue, match="default, long, short"):
        enqueue(tasks.nothing, queue=queue)


@pytest.mark.parametrize("method", [None, lambda: 1, 7, "", "add", "tests.tasks.nowhere"])
def test_a_method_that_no_worker_could_run_is_refused(method):
    with pytest.raises(InvalidCall):
        enqueue(method)


def test_a_mistyped_path_is_refused_without_advice_for_workers():
    with pytest.raises(MethodNotCallable, match=r"'tests.tasks' has no 'nothin'[.]$"):
        enqueue("tests.tasks.nothin")


def test_a_method_that_nothing_allows_is_a_permission_error():
    with pytest.raises(MethodNotAllowed) as refused:
        enqueue("os.system", command="true")

    assert isinstance(refused.value, PermissionError)


def test_a_method_whose_name_fits_no_column_is_refused(monkeypatch):
    long = "x" * 300
    monkeypatch.setattr(tasks, long, lambda: None, raising=False)

    with pytest.raises(InvalidCall):
        enqueue(f"tests.tasks.{long}")


def test_arguments_that_cannot_come_back_are_refused():
    with pytest.raises(ArgumentsNotSerializable, match="value"):
        enqueue(tasks.give_back, value=object())


def test_arguments_over_the_limit_are_refused(conf):
    conf(ARGUMENTS_MAX_BYTES=100)
    enqueue(tasks.give_back, value="x" * 80)

    with pytest.raises(ArgumentsTooLarge, match="over the limit of 100"):
        enqueue(tasks.give_back, value="ä" * 50)


@pytest.mark.parametrize(
    "mistaken",
    [
        {"queue": "short"},
        {"priority": 0},
        {"priority": 5},
        {"at_front": True},
        {"max_retries": 0},
        {"batch_id": "b"},
    ],
    ids=str,
)
def test_an_option_that_is_also_a_parameter_is_refused(mistaken):
    with pytest.raises(InvalidCall, match="also an option"):
        enqueue(named, **mistaken)


def test_arguments_reach_parameters_that_are_named_like_options():
    task = enqueue(named, arguments={"queue": 1, "priority": 2, "batch_id": 3})

    assert decode(task.arguments) == {"queue": 1, "priority": 2, "batch_id": 3}
    assert (task.queue, task.priority, task.batch_id) == ("default", None, None)


def test_arguments_beat_keywords():
    task = enqueue(tasks.add, left=1, right=2, arguments={"right": 3})

    assert decode(task.arguments) == {"left": 1, "right": 3}


def test_every_option_is_known_by_name():
    one, many = (inspect.signature(call).parameters for call in (enqueue, bulk_enqueue))
    assert {n for n, p in one.items() if p.kind is p.KEYWORD_ONLY} == OPTIONS
    assert {**one, "tasks": many["tasks"], "batch_id": many["batch_id"]} == {
        **many,
        "method": one["method"],
    }
    for name in OPTIONS:
        assert one[name].default is DEFAULTS.get(name)


def test_an_action_on_a_document_takes_the_same_options():
    one, doc = (inspect.signature(call).parameters for call in (enqueue, enqueue_doc))
    own = {"document_type", "name", "method"}
    said_by_them = {"document_type", "document_name", "document_action", "method"}
    assert {name: doc[name] for name in doc.keys() - own} == {
        name: one[name] for name in one.keys() - said_by_them
    }


def test_type_checkers_are_told_each_option_with_a_wrong_call():
    """The sample is checked by mypy with everything else: tests/typedcalls.py."""
    from tests import typedcalls

    sample = inspect.getsource(typedcalls.wrong_calls)
    told = set(re.findall(r"(\w+)=.*# type: ignore", sample))
    # A primary key may be anything.
    assert told - {"ignore"} == OPTIONS - {"document_name"}


# Bulk


def rows_of(batch_id):
    return TaskLog.objects.filter(batch_id=batch_id).order_by("batch_order", "pk")


def test_a_batch_keeps_the_order_of_its_tasks():
    make_task()

    batch = bulk_enqueue({"method": tasks.give_back, "value": n} for n in range(25))

    rows = list(rows_of(batch))
    assert [decode(row.arguments)["value"] for row in rows] == list(range(25))
    assert [row.batch_order for row in rows] == list(range(25))
    assert len({row.position for row in rows}) == 1
    assert TaskBatch.objects.get(pk=batch).total == 25


def test_a_later_bulk_call_stands_behind_an_earlier_one():
    first = bulk_enqueue([{"method": tasks.nothing}] * 3)
    second = bulk_enqueue([{"method": tasks.nothing}] * 3)

    (a,) = set(rows_of(first).values_list("position", flat=True))
    (b,) = set(rows_of(second).values_list("position", flat=True))
    assert a < b


def test_a_tasks_own_keys_beat_the_shared_ones():
    batch = bulk_enqueue(
        [{"value": 1}, {"value": 2, "queue": "short", "batch_order": 9, "priority": 3}],
        method=tasks.give_back,
        queue="long",
        max_retries=1,
    )

    assert list(
        rows_of(batch).values_list("queue", "batch_order", "priority", "max_retries")
    ) == [
        ("long", 0, None, 1),
        ("short", 9, 3, 1),
    ]


def test_a_batch_can_be_named_and_added_to():
    assert bulk_enqueue([{"method": tasks.nothing}] * 2, batch_id="mine") == "mine"
    bulk_enqueue([{"method": tasks.nothing}] * 3, batch_id="mine")
    enqueue(tasks.nothing, batch_id="mine")

    assert TaskBatch.objects.get(pk="mine").total == 6
    assert rows_of("mine").count() == 6


def test_a_task_may_name_the_batch_of_the_call():
    bulk_enqueue([{"method": tasks.nothing, "batch_id": "mine"}], batch_id="mine")

    assert rows_of("mine").count() == 1


def test_an_empty_batch_is_a_batch():
    batch = bulk_enqueue([])

    assert TaskBatch.objects.get(pk=batch).total == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "wrong",
    [
        {"method": tasks.fail, "nowhere": 1},
        {"method": lambda: 1},
        {"method": tasks.nothing, "timeout": 0},
        {"method": tasks.nothing, "batch_id": "of another call"},
        {},
        "tests.tasks.nothing",
        None,
    ],
    ids=str,
)
def test_if_one_task_is_refused_none_is_stored_and_its_place_is_told(wrong, monkeypatch):
    monkeypatch.setattr(enqueueing, "CHUNK", 2)

    with pytest.raises(InvalidCall) as refused:
        bulk_enqueue([*[{"method": tasks.nothing}] * 5, wrong])

    assert not TaskLog.objects.exists()
    assert not TaskBatch.objects.exists()
    assert "task 5 of bulk_enqueue" in "".join(refused.value.__notes__)


def test_the_names_that_a_batch_gives_itself_may_be_parameters():
    bulk_enqueue([{"method": named}])

    with pytest.raises(InvalidCall, match="also an option"):
        bulk_enqueue([{"method": named}], queue="short")


def test_a_batch_belongs_to_its_creator():
    user = make_user("ann")

    with acting_as(user):
        batch = bulk_enqueue([{"method": tasks.nothing}])

    assert TaskBatch.objects.get(pk=batch).created_by == user
    assert rows_of(batch).get().created_by == user


@pytest.mark.only_on("postgresql")
def test_what_the_database_would_compute_for_each_row_is_asked_once():
    with CaptureQueriesContext(connection) as queries:
        batch = bulk_enqueue([{}] * 3, method=tasks.nothing, run_at=dt.timedelta(hours=1))

    writing = [one for one in statements(queries) if '"taskcontrol_tasklog' in one]
    assert [one[:4] for one in writing] == ["COPY"]
    assert rows_of(batch).filter(ready_lane=None).count() == 3


def test_the_times_of_a_bulk_count_from_its_beginning():
    soon = dt.timedelta(minutes=3)

    batch = bulk_enqueue([{}, {"run_at": None}], method=tasks.nothing, run_at=soon)

    first, second = rows_of(batch)
    assert first.run_at == first.created_at + soon
    assert second.run_at is None
    assert abs(first.created_at - dialect.now("default")) < dt.timedelta(seconds=5)
    assert first.created_at == second.created_at


def test_a_bulk_from_a_generator_keeps_one_chunk_in_memory(monkeypatch):
    monkeypatch.setattr(enqueueing, "CHUNK", 25)

    def peak(number):
        tracemalloc.start()
        bulk_enqueue(({"value": "x" * 1000} for _ in range(number)), method=tasks.give_back)
        _now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(50)
    assert peak(300) < 1.5 * peak(50)


def test_the_longest_values_fit_every_column():
    task = enqueue(
        options_taken,
        job_name="n" * 300,
        timeout=options.MOST_SECONDS,
        max_retries=options.MOST_RETRIES,
        retry_delay=options.MOST_SECONDS,
        priority=1000,
        batch_order=options.MOST,
        batch_id="b" * 140,
        job_id="j" * 255,
        event="e" * 140,
        run_at=dt.timedelta(days=3650),
    )

    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_the_front_door_leads_here():
    assert taskcontrol.enqueue is enqueue
    assert taskcontrol.bulk_enqueue is bulk_enqueue
    with pytest.raises(MethodNotCallable):
        taskcontrol.enqueue("x")
