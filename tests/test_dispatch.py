"""What one pass promotes: in order, under limits, into slots, at a cost that stays small."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import time_machine
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given, settings as hypothesis_settings, strategies as st
from hypothesis.extra.django import TestCase

import taskcontrol
from taskcontrol import dispatch, lifecycle, tasktypes, turns
from taskcontrol.brief import brief
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.lanereads import first_rows, read_heads
from taskcontrol.lanes import lane_of
from taskcontrol.models import (
    DispatcherState,
    QueueState,
    TaskEvent,
    TaskLog,
    TaskType,
    Worker,
)
from taskcontrol.status import ACTIVE, Status
from tests import tasks
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.servers.redis import Redis
from tests.test_lifecycle import statements
from tests.test_slots import fits
from tests.waiting import beside, eventually, race

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.databases,
    pytest.mark.usefixtures("broker"),
]


def queued(**columns):
    """Return the keys of what was promoted, in the order of the keys."""
    rows = TaskLog.objects.filter(status=Status.QUEUED, **columns).order_by("pk")
    return list(rows.values_list("pk", flat=True))


def many(count, **columns):
    """Store many Pending rows at once, in their order."""
    one = make_task(**columns)
    TaskLog.objects.filter(pk=one.pk).delete()
    one.pk = None
    first = columns.get("position", 1)
    rows = []
    for number in range(count):
        values = {f.attname: getattr(one, f.attname) for f in TaskLog._meta.concrete_fields}
        values.pop("id")
        values["position"] = first + number
        rows.append(TaskLog(**values))
    return TaskLog.objects.bulk_create(rows, batch_size=500)


def messages(broker: Redis, queue="default"):
    """Return (task, attempt) of the messages that wait, in the order of their delivery."""
    with broker.client() as client:
        raw = client.lrange(queue, 0, -1)[::-1]
    found = []
    for one in raw:
        headers = json.loads(one)["headers"]
        site, task_id, attempt = headers["id"].split("-")
        assert len(site) == 8
        found.append((int(task_id), int(attempt)))
    return found


# The plain pass


def test_a_pass_promotes_what_finds_a_slot_and_sends_it(broker):
    make_worker(pool_size=2)
    make_type()
    first, second, third = (make_task() for _ in range(3))

    assert dispatch_pending() == 2

    assert queued() == [first.pk, second.pk]
    assert messages(broker) == [(first.pk, 1), (second.pk, 1)]
    assert TaskLog.objects.get(pk=third.pk).status == Status.PENDING
    assert dispatch_pending() == 0


def test_a_message_holds_nothing_but_the_number_of_the_task(broker):
    make_worker()
    task = make_task(arguments={"password": "hunter2"}, timeout=77)

    dispatch_pending()

    with broker.client() as client:
        (raw,) = client.lrange("default", 0, -1)
    assert b"hunter2" not in raw
    message = json.loads(raw)
    assert message["headers"]["task"] == "taskcontrol.run"
    assert message["headers"]["timelimit"] == [87.0, 77]
    body = json.loads(__import__("base64").b64decode(message["body"]))
    assert body[:2] == [[task.pk, 1], {}]


def test_without_a_worker_nothing_is_promoted_p1():
    make_task()

    assert dispatch_pending() == 0


def test_a_queue_that_no_worker_consumes_waits_and_holds_up_nobody_p4():
    make_worker(["short"], 1)
    make_task(queue="long", at_front=True)
    task = make_task(queue="short")

    assert dispatch_pending() == 1
    assert queued() == [task.pk]


def test_an_unknown_method_gets_a_type_in_the_pass():
    make_worker()
    make_task(method="tests.tasks.add")
    make_task(method="tests.tasks.fail")

    assert dispatch_pending() == 2

    assert (
        TaskType.objects.filter(method__in=["tests.tasks.add", "tests.tasks.fail"]).count()
        == 2
    )


def test_a_pass_notes_that_it_was_here():
    dispatch_pending()
    state = DispatcherState.objects.get()
    assert (state.last_pass_at is not None, state.last_promoted_at) == (True, None)
    make_worker()
    make_task()

    dispatch_pending()

    assert DispatcherState.objects.get().last_promoted_at is not None


@pytest.mark.parametrize(
    ("age", "written"),
    [
        (0.2, False),
        (2, True),
        (-60, True),  # the clock was set back
    ],
)
@pytest.mark.parametrize("promotes", [False, True])
def test_a_pass_gives_its_sign_of_life_once_a_second(promotes, age, written):
    dispatch_pending()
    before = seconds_ago(age)
    DispatcherState.objects.update(last_pass_at=before, last_promoted_at=before)
    make_type()
    make_worker()
    if promotes:
        make_task()

    dispatch_pending()

    state = DispatcherState.objects.get()
    assert (state.last_pass_at != before) is written
    assert (state.last_promoted_at != before) is (written and promotes)


def test_the_first_promotion_for_a_while_is_told_at_once():
    dispatch_pending()
    before = seconds_ago(60)
    DispatcherState.objects.update(last_promoted_at=before)
    make_type()
    make_worker()
    make_task()

    dispatch_pending()

    assert DispatcherState.objects.get().last_promoted_at != before


def test_an_undisturbed_promotion_writes_no_event():
    make_worker()
    make_task()

    dispatch_pending()

    assert not TaskEvent.objects.exists()


# What holds back


def test_while_suspended_nothing_is_promoted():
    make_worker()
    make_task()
    taskcontrol.toggle_dispatcher(False)
    assert dispatch_pending() == 0

    taskcontrol.toggle_dispatcher(True)

    assert dispatch_pending() == 1


@pytest.mark.parametrize(
    ("pause", "held"),
    [
        ({"paused_at": seconds_ago(5)}, True),
        ({"paused_at": seconds_ago(5), "paused_until": seconds_ago(-3600)}, True),
        ({"paused_at": seconds_ago(5), "paused_until": seconds_ago(1)}, False),
    ],
    ids=["for ever", "for a while", "till now"],
)
@pytest.mark.parametrize("scope", ["type", "queue"])
def test_a_pause_holds_its_own_back_and_nobody_else(pause, held, scope):
    make_worker()
    if scope == "type":
        make_type("m.held", **pause)
    else:
        QueueState.objects.create(name="short", **pause)
    task = make_task(method="m.held", queue="short")
    other = make_task(method="m.other", queue="long")

    dispatch_pending()

    assert queued() == ([other.pk] if held else [task.pk, other.pk])


def test_a_task_comes_in_when_its_time_has_come():
    make_worker()
    due, later = make_task(run_at=seconds_ago(1)), make_task(run_at=seconds_ago(-600))
    TaskLog.objects.update(ready_lane=None)

    assert dispatch_pending() == 1
    assert queued() == [due.pk]
    assert TaskLog.objects.get(pk=later.pk).ready_lane is None


@pytest.mark.parametrize("status", [Status.PENDING, Status.PAUSED, Status.QUEUED], ids=str)
def test_a_pass_ends_what_has_expired(status):
    task = make_task(status, expires_at=seconds_ago(1))

    assert dispatch_pending() == 0

    assert TaskLog.objects.get(pk=task.pk).status == Status.CANCELED


@pytest.mark.parametrize("hours", [-48, 48])
def test_only_the_clock_of_the_database_counts(hours):
    """A machine whose clock is two days off promotes, expires and retries as any other."""
    make_worker()
    make_type()
    due = make_task(run_at=seconds_ago(1), ready_lane=None)
    later = make_task(run_at=seconds_ago(-3600), ready_lane=None)
    alive, expired = (make_task(expires_at=seconds_ago(age)) for age in (-3600, 1))
    failed = make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(1))
    waiting = make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(-3600))

    with time_machine.travel(timezone.now() + timedelta(hours=hours)):
        dispatch_pending()

    statuses = dict(TaskLog.objects.values_list("pk", "status"))
    assert [
        statuses[task.pk] for task in (due, later, alive, expired, failed, waiting)
    ] == [
        Status.QUEUED,
        Status.PENDING,
        Status.QUEUED,
        Status.CANCELED,
        Status.PENDING,
        Status.FAILED,
    ]


def test_a_paused_task_stays():
    make_worker()
    make_task(Status.PAUSED)

    assert dispatch_pending() == 0


# Limits


def test_a_limit_counts_what_is_sent_running_and_stopping_p4():
    make_worker(pool_size=10)
    make_type("m", concurrency_limit=4)
    make_task(Status.STARTED, method="m")
    make_task(Status.QUEUED, method="m")
    make_task(Status.CANCELED, method="m", occupies=True)
    for _ in range(3):
        make_task(method="m")

    assert dispatch_pending() == 1


def test_a_limit_holds_over_queues_and_priorities_p4():
    make_worker(pool_size=10)
    make_type("m", concurrency_limit=2)
    for queue in ("short", "default", "long"):
        for priority in (None, 1, 2):
            make_task(method="m", queue=queue, priority=priority)

    assert dispatch_pending() == 2


def test_a_raised_limit_lets_more_in_and_a_lowered_one_stops_nobody_p4():
    make_worker(pool_size=10)
    kind = make_type("m", concurrency_limit=1)
    for _ in range(6):
        make_task(method="m")
    assert dispatch_pending() == 1

    kind.concurrency_limit = 3
    kind.save()
    assert dispatch_pending() == 2

    kind.concurrency_limit = 1
    kind.save()
    assert dispatch_pending() == 0
    assert len(queued()) == 3


def test_a_full_type_never_holds_up_another_p4():
    make_worker(pool_size=3)
    make_type("m.full", concurrency_limit=1, priority=100)
    make_task(Status.STARTED, method="m.full")
    many(30, method="m.full", at_front=True)
    other = make_task(method="m.other")

    assert dispatch_pending() == 1
    assert queued() == [other.pk]


def test_a_full_worker_never_holds_up_the_queue_of_another_p4():
    # More tasks than could ever wait in the broker, of a type nobody has measured yet.
    busy = make_worker(["long"], 1, prefetch_off=True)
    make_worker(["short"], 1, prefetch_off=True)
    make_task(Status.STARTED, worker=busy, queue="long")
    many(300, method="m.long", queue="long")
    other = make_task(method="m.short", queue="short")

    assert dispatch_pending() == 1
    assert queued() == [other.pk]


# Order


def test_what_is_short_does_not_overtake_what_waits_for_a_slot_of_the_same_queue_p5():
    """A stream of short tasks, sent ahead, would keep a long one waiting for ever."""
    worker = make_worker(["default"], 1, prefetch_off=True)
    make_type("m.long", usual_seconds=5)
    make_type("m.short", usual_seconds=0.01)
    make_task(Status.STARTED, worker=worker, method="m.short")
    make_task(method="m.long", position=1)
    make_task(method="m.short", position=2)

    assert dispatch_pending() == 0


def test_what_is_short_is_sent_ahead_in_order_p5():
    worker = make_worker(["default"], 1, prefetch_off=True)
    make_type("m.short", usual_seconds=0.03)
    make_task(Status.STARTED, worker=worker, method="m.short")
    tasks_in_order = [make_task(method="m.short", position=n) for n in range(10)]

    assert dispatch_pending() == 3
    assert queued() == [task.pk for task in tasks_in_order[:3]]


def test_a_late_urgent_task_overtakes_everything_pending_p5(broker):
    make_worker(pool_size=1)
    make_task()
    make_task()
    urgent = make_task(priority=5)
    first = make_task(at_front=True)
    assert dispatch_pending() == 1
    TaskLog.objects.filter(pk=first.pk).update(
        status=Status.FINISHED, occupies=False, ended_at=seconds_ago(0)
    )

    assert dispatch_pending() == 1

    assert messages(broker) == [(first.pk, 1), (urgent.pk, 1)]


def test_messages_are_sent_in_the_order_of_promotion_p5(broker):
    make_worker(pool_size=50)
    for method in ("m0", "m1"):
        make_type(method)
    for position in (5, 3, 9, 1, 7):
        make_task(method=f"m{position % 2}", position=position)

    dispatch_pending()

    positions = dict(TaskLog.objects.values_list("pk", "position"))
    assert [positions[pk] for pk, _ in messages(broker)] == [1, 3, 5, 7, 9]


@dataclass
class World:
    """Everything that a pass looks at."""

    rows: list[dict]
    types: dict[str, dict]
    paused_queues: set[str]
    workers: list[tuple[frozenset[str], int]]
    running: list[tuple[str, int]]
    page: int
    tasks: list[TaskLog] = field(default_factory=list)


METHODS = ("m.a", "m.b", "m.c")
NAMES = ("short", "default", "long")
worlds = st.builds(
    World,
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "method": st.sampled_from(METHODS),
                "queue": st.sampled_from(NAMES),
                "priority": st.sampled_from([None, None, -1, 0, 5]),
                "at_front": st.booleans(),
                "position": st.integers(0, 3),
                "batch_order": st.integers(-2, 2),
            }
        ),
        max_size=14,
    ),
    types=st.fixed_dictionaries(
        {
            method: st.fixed_dictionaries(
                {
                    "priority": st.integers(-1, 1),
                    "concurrency_limit": st.integers(0, 3),
                    "paused": st.sampled_from([False] * 5 + [True]),
                }
            )
            for method in METHODS
        }
    ),
    paused_queues=st.sets(st.sampled_from(NAMES), max_size=1),
    workers=st.lists(
        st.tuples(st.frozensets(st.sampled_from(NAMES), min_size=1), st.integers(1, 4)),
        max_size=3,
    ),
    running=st.lists(st.tuples(st.sampled_from(METHODS), st.integers(0, 2)), max_size=4),
    page=st.integers(1, 20),
)


def bodies(world):
    """Return which method runs in which worker; none runs more than it has slots."""
    found, left = [], [size for _, size in world.workers]
    for method, number in world.running:
        if number < len(left) and left[number]:
            left[number] -= 1
            found.append((method, number))
    return found


def build(world):
    for method, columns in world.types.items():
        values = dict(columns)
        paused = {"paused_at": seconds_ago(5)} if values.pop("paused") else {}
        make_type(method, **values, **paused)
    for queue in world.paused_queues:
        QueueState.objects.create(name=queue, paused_at=seconds_ago(5))
    workers = [make_worker(sorted(queues), size) for queues, size in world.workers]
    for method, number in bodies(world):
        make_task(Status.STARTED, method=method, worker=workers[number])
    world.tasks = [make_task(**row) for row in world.rows]


def promoted_by_the_oracle(world):
    """Return the keys of what a pass must promote: one row after the other, in order."""
    busy = Counter(number for _, number in bodies(world))
    by_type = Counter(method for method, _ in bodies(world))
    free = [
        (queues, max(size - busy[number], 0))
        for number, (queues, size) in enumerate(world.workers)
    ]
    taken: list[str] = []
    chosen = set()

    def place(task):
        own = task.priority
        urgency = world.types[task.method]["priority"] if own is None else own
        return (not task.at_front, -urgency, task.position, task.batch_order, task.pk)

    for task in sorted(world.tasks, key=place):
        kind = world.types[task.method]
        limit = kind["concurrency_limit"]
        if kind["paused"] or task.queue in world.paused_queues:
            continue
        if limit and by_type[task.method] >= limit:
            continue
        if fits(free, [*taken, task.queue]):
            taken.append(task.queue)
            by_type[task.method] += 1
            chosen.add(task.pk)
    return chosen


@pytest.mark.usefixtures("broker")
class AgainstTheOracle(TestCase):
    """Random worlds against a few lines of Python that know nothing of lanes."""

    @given(worlds)
    @hypothesis_settings(max_examples=150, deadline=None)
    def test_a_pass_promotes_exactly_what_the_order_says_p5(self, world):
        with self.settings(TASKCONTROL={"DISPATCH_PAGE": world.page}):
            tasktypes.forget()
            build(world)

            count = dispatch_pending()

            assert set(queued()) == promoted_by_the_oracle(world)
            assert count == len(queued())


# Cost


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("layout", ["one type", "mixed", "type by type"])
def test_five_hundred_promotions_cost_at_most_six_statements(layout):
    kinds = 1 if layout == "one type" else 1000
    TaskType.objects.bulk_create(TaskType(method=f"m.{n}") for n in range(kinds))
    each = 5000 // kinds
    rows = []
    for kind in range(kinds):
        lane = lane_of("default", f"m.{kind}", None)
        for number in range(each):
            position = number * kinds + kind if layout == "mixed" else kind * each + number
            rows.append(
                TaskLog(
                    job_name="n",
                    method=f"m.{kind}",
                    lane=lane,
                    ready_lane=lane,
                    position=position,
                )
            )
    TaskLog.objects.bulk_create(rows)
    make_worker(pool_size=500)  # now, lest it be lost before the rows are there
    dispatch.dispatcher_state()

    with CaptureQueriesContext(connection) as queries:
        assert dispatch_pending() == 500

    assert len(statements(queries)) <= 6, "\n".join(statements(queries))
    last = TaskLog.objects.filter(status=Status.QUEUED).order_by("-position").first()
    assert last.position == 499


@pytest.mark.only_on("postgresql", "sqlite")
def test_an_idle_pass_costs_one_statement():
    make_worker()
    dispatch_pending()

    with CaptureQueriesContext(connection) as queries:
        dispatch_pending()

    assert len(statements(queries)) == 1


@pytest.mark.django_db(transaction=True)
def test_an_idle_pass_waits_for_no_disk():
    make_worker()
    dispatch_pending()

    with CaptureQueriesContext(connection) as queries:
        dispatch_pending()

    assert [one["sql"] for one in queries.captured_queries][-1] == "ROLLBACK"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("signed", [True, False])
def test_what_an_idle_pass_has_to_tell_is_committed(signed):
    dispatch_pending()
    before = seconds_ago(0.2 if signed else 9)
    DispatcherState.objects.update(last_pass_at=before)

    dispatch_pending()

    assert (DispatcherState.objects.get().last_pass_at == before) is signed


@pytest.mark.only_on("postgresql", "sqlite")
def test_a_pass_with_one_task_costs_three_statements():
    make_worker()
    make_type("m")
    for _ in range(2):
        make_task(method="m")
        with CaptureQueriesContext(connection) as queries:
            assert dispatch_pending() == 1

    most = 3 if connection.vendor == "postgresql" else 6
    assert len(statements(queries)) <= most, "\n".join(statements(queries))


def test_retries_that_are_due_take_part_in_the_pass_that_finds_them_p5():
    make_worker(pool_size=1)
    later = make_task(position=2)
    first = make_task(
        Status.FAILED, max_retries=1, retry_at=seconds_ago(1), position=1, lane=later.lane
    )

    assert dispatch_pending() == 1

    first.refresh_from_db()
    assert first.status == Status.QUEUED


def test_a_pass_over_full_slots_does_not_look_at_the_lanes():
    worker = make_worker(pool_size=1)
    make_task(Status.STARTED, worker=worker)
    make_task()
    dispatch_pending()

    with CaptureQueriesContext(connection) as queries:
        dispatch_pending()

    assert not any("RECURSIVE" in sql for sql in statements(queries))


BACKLOG = 20_000
TABLES = (TaskLog._meta.db_table, TaskType._meta.db_table, QueueState._meta.db_table)


@pytest.fixture
def backlog(django_db_blocker):
    """Twenty thousand tasks of a full type before one task of a free type."""
    make_worker(pool_size=5)
    make_type("m.full", concurrency_limit=1)
    make_type("m.free")
    make_task(Status.STARTED, method="m.full")
    lane = lane_of("default", "m.full", None)
    with connection.cursor() as cursor:
        many(1, method="m.full")
        columns = ", ".join(
            f.column
            for f in TaskLog._meta.concrete_fields
            if f.column not in {"id", "position"}
        )
        cursor.execute(
            f"INSERT INTO {TABLES[0]} (position, {columns}) "
            f"SELECT n, {columns} FROM {TABLES[0]}, GENERATE_SERIES(2, {BACKLOG}) n "
            "WHERE ready_lane = %s",
            [lane],
        )
        cursor.execute(f"ANALYZE {TABLES[0]}")
    return make_task(method="m.free", position=10**9)


def plan_of(sql, params):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", params)
        (row,) = cursor.fetchall()
    (whole,) = row[0] if isinstance(row[0], list) else json.loads(row[0])
    return whole["Plan"]


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("query", ["heads", "fronts"])
def test_a_backlog_of_a_full_type_is_not_read(backlog, query):
    with CaptureQueriesContext(connection) as queries:
        if query == "heads":
            assert len(read_heads()) == 2
        else:
            lanes = [(lane_of("default", name, None), 5) for name in ("m.full", "m.free")]
            assert len(first_rows(lanes)) == 6
    (sql,) = statements(queries)

    plan = plan_of(sql, None)

    scans = [node for node in nodes(plan) if node.get("Relation Name") == TABLES[0]]
    assert scans
    assert all("Index" in node["Node Type"] for node in scans)
    read = sum(node["Actual Rows"] * node["Actual Loops"] for node in scans)
    read += sum(node.get("Rows Removed by Filter", 0) for node in scans)
    assert read < 50


@pytest.mark.only_on("postgresql")
def test_a_backlog_of_a_full_type_does_not_delay_a_free_type_p4(backlog):
    assert dispatch_pending() == 1
    assert queued() == [backlog.pk]


def test_many_lanes_of_a_full_type_do_not_hide_the_rest_of_another(conf):
    conf(DISPATCH_PAGE=8)
    make_worker(pool_size=15)
    make_type("m.one", concurrency_limit=1)
    make_type("m.other")
    for priority in range(1, 8):
        make_task(method="m.one", priority=priority)
    others = many(20, method="m.other", position=10**9)

    assert dispatch_pending() == 15

    assert queued(method="m.other") == [task.pk for task in others[:14]]
    assert TaskLog.objects.get(method="m.one", status=Status.QUEUED).priority == 7


# Several at once


@pytest.mark.django_db(transaction=True)
def test_eight_passes_at_once_never_exceed_a_limit_p4():
    make_worker(pool_size=100)
    limits = {"m.one": 1, "m.two": 2, "m.five": 5, "m.seventeen": 17}
    for method, limit in limits.items():
        make_type(method, concurrency_limit=limit)
        many(40, method=method)

    answers = race(*[dispatch_pending] * 8)

    assert sum(answers) == sum(limits.values())
    active = TaskLog.objects.filter(status__in=ACTIVE)
    assert Counter(active.values_list("method", flat=True)) == limits
    assert set(active.values_list("attempt", flat=True)) == {1}


@pytest.mark.django_db(transaction=True)
def test_eight_passes_at_once_send_each_task_once_p3(broker):
    make_worker(pool_size=200)
    make_type()
    many(200)

    assert sum(race(*[dispatch_pending] * 8)) == 200

    sent = messages(broker)
    assert len(sent) == len(set(sent)) == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_one_pass_at_a_time():
    make_worker()
    make_task()
    dispatch.dispatcher_state()

    with transaction.atomic():
        turns.take_turn()
        with pytest.raises(TimeoutError):
            beside(dispatch_pending, timeout=0.5)

    assert eventually(queued)


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("work", ["a pass", "the sweep of retries", "a rescue"])
def test_who_sleeps_in_the_middle_of_it_keeps_what_is_locked_for_a_while_only_p1(
    conf, work
):
    conf(WORKER_LOST_AFTER=2)
    make_worker()
    lost = make_task(Status.STARTED)
    due = make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(1))
    dispatch.dispatcher_state()
    begin, of_others = {
        "a pass": (turns.take_turn, dispatch_pending),
        "a rescue": (
            lambda: lifecycle.rescue(lost.pk, 1, detail="lost"),
            lambda: lifecycle.cancel(lost),
        ),
        "the sweep of retries": (
            lambda: lifecycle.retry_due([due.pk]),
            lambda: lifecycle.cancel(due),
        ),
    }[work]

    def sleep_in_the_middle():
        with brief():
            begin()
            # As on a machine that is paused, or that the network has lost.
            assert beside(of_others) is not None
            TaskLog.objects.count()

    with pytest.raises(DatabaseError, match="idle"):
        sleep_in_the_middle()


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("slots", [1, 3, 10])
def test_a_row_that_somebody_holds_is_skipped_and_stops_nobody(slots):
    make_worker(pool_size=slots)
    make_type()
    held = [make_task(at_front=True) for _ in range(3)]
    free = [make_task() for _ in range(4)]
    keys = [task.pk for task in held]

    with transaction.atomic():
        list(TaskLog.objects.select_for_update().filter(pk__in=keys))
        answer = beside(dispatch_pending)

    assert answer == min(slots, 4)
    assert queued() == [task.pk for task in free[:slots]]
    assert dispatch_pending() == min(3, slots - min(slots, 4))


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_what_somebody_holds_counts_in_no_rate():
    make_worker(pool_size=9)
    make_type(rate_limit="3/h")
    held = make_task(at_front=True)
    free = [make_task() for _ in range(4)]

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=held.pk)
        answer = beside(dispatch_pending)

    assert answer == 3
    assert queued() == [task.pk for task in free[:3]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.parametrize("what", ["retry", "expiry", "run_at"])
def test_a_row_that_is_due_and_held_by_somebody_stops_no_pass(what):
    make_worker()
    held = {
        "retry": lambda: make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(1)),
        "expiry": lambda: make_task(expires_at=seconds_ago(1)),
        "run_at": lambda: make_task(run_at=seconds_ago(1), ready_lane=None),
    }[what]()
    free = make_task()

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=held.pk)
        answer = beside(dispatch_pending)

    assert answer == 1
    assert queued() == [free.pk]


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_callers_open_transaction_with_an_enqueue_stops_no_pass():
    make_worker()
    seen = make_task()

    with transaction.atomic():
        taskcontrol.enqueue(tasks.nothing)
        taskcontrol.bulk_enqueue([{"method": tasks.add, "left": 1}])
        answer = beside(dispatch_pending)

    assert answer == 1
    assert queued() == [seen.pk]


@pytest.mark.parametrize("locks_in_updates", [True, False])
def test_a_task_that_is_paused_while_a_pass_looks_gives_its_slot_to_the_next(
    monkeypatch, locks_in_updates
):
    if not locks_in_updates:
        monkeypatch.setattr(dispatch, "locks_in_updates", lambda using: False)
    make_worker(pool_size=1)
    first, second = make_task(), make_task()
    read = dispatch.read_fronts

    def read_slowly(*args, **options):
        fronts = read(*args, **options)
        lifecycle.pause(first.pk)
        return fronts

    monkeypatch.setattr(dispatch, "read_fronts", read_slowly)

    assert dispatch_pending() == 1
    assert queued() == [second.pk]


@pytest.mark.django_db(transaction=True)
def test_an_enqueue_is_not_held_up_by_a_pass():
    make_worker()
    make_type()
    many(20)
    answers = race(
        *[dispatch_pending] * 2,
        *[lambda: taskcontrol.enqueue(tasks.nothing).pk] * 4,
    )

    assert all(isinstance(answer, int) for answer in answers)


# The broker away


@pytest.mark.django_db(transaction=True)
def test_what_the_broker_does_not_take_waits_with_the_reason_p1(broker):
    make_worker(pool_size=5)
    make_type()
    waiting = [make_task() for _ in range(3)]
    broker.kill()

    with pytest.raises(BrokerUnavailable):
        dispatch_pending()

    rows = TaskLog.objects.values("status", "occupies", "attempt", "ready_lane")
    assert (
        list(rows)
        == [
            {
                "status": Status.PENDING,
                "occupies": False,
                "attempt": 1,
                "ready_lane": waiting[0].lane,
            }
        ]
        * 3
    )
    events = TaskEvent.objects.filter(kind=TaskEvent.Kind.UNSENT)
    assert events.count() == 3
    assert "broker cannot be reached" in events.first().detail
    assert "broker cannot be reached" in DispatcherState.objects.get().broker_error


@pytest.mark.django_db(transaction=True)
def test_while_the_broker_is_away_nothing_is_promoted_again_and_again_p1(broker):
    make_worker()
    task = make_task()
    broker.kill()
    for _ in range(3):
        with pytest.raises(BrokerUnavailable):
            dispatch_pending()

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.attempt, row.events.count()) == (Status.PENDING, 1, 1)


@pytest.mark.django_db(transaction=True)
def test_what_waited_for_the_broker_is_sent_when_it_is_back_p1(broker):
    make_worker(pool_size=5)
    make_type()
    waiting = [make_task() for _ in range(3)]
    broker.kill()
    with pytest.raises(BrokerUnavailable):
        dispatch_pending()
    broker.start()

    assert eventually(dispatch_pending) == 3

    assert messages(broker) == [(task.pk, 2) for task in waiting]
    assert DispatcherState.objects.get().broker_error == ""


@pytest.mark.django_db(transaction=True)
def test_a_frozen_broker_holds_a_pass_up_for_seconds_at_most_p1(broker):
    make_worker()
    make_task()
    broker.freeze()

    with pytest.raises(BrokerUnavailable):
        beside(dispatch_pending, timeout=30)

    assert TaskLog.objects.get().status == Status.PENDING
    broker.thaw()
    assert eventually(dispatch_pending) == 1


@pytest.mark.django_db(transaction=True)
def test_nothing_waits_while_nothing_is_to_be_sent(broker):
    """An idle pass does not ask the broker."""
    make_worker()
    broker.kill()

    assert dispatch_pending() == 0
    assert Worker.objects.count() == 1
