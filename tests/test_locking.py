"""Two who act on one task at once: who waits, who passes it over, and what comes of it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.db import connection, connections, transaction

import taskcontrol
from taskcontrol import (
    batchcontrol,
    broker,
    dispatch,
    draining,
    enqueueing,
    firing,
    incidents,
    keys,
    lifecycle,
    measures,
    pausing,
    pruning,
    rescue,
    resending,
    settling,
)
from taskcontrol.exceptions import InvalidTransition, KeyTaken
from taskcontrol.models import (
    DispatcherState,
    QueueState,
    Schedule,
    TaskAttempt,
    TaskBatch,
    TaskEvent,
    TaskKey,
    TaskLog,
    Worker,
)
from taskcontrol.status import Status
from tests.factories import make_batch, make_task, make_type, make_worker, seconds_ago
from tests.lockorder import ORDER, WrongOrder, watched
from tests.waiting import eventually, race

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.databases,
    pytest.mark.only_on("postgresql", "mysql"),
]


@pytest.fixture(autouse=True)
def _no_courier(monkeypatch):
    monkeypatch.setattr(broker, "publish", lambda messages: None)
    monkeypatch.setattr(broker, "check", lambda: None)


# Pairs


class Act(NamedTuple):
    """Something that is done to a task, and the statuses in which it does something."""

    call: Callable[[TaskLog], Any]
    statuses: tuple[Status, ...]
    #: It must not wait for a task that somebody holds.
    passes_over: bool = False


def retry_by_hand(task: TaskLog) -> None:
    with suppress(InvalidTransition):
        taskcontrol.retry(task.pk)


def move_to_front(task: TaskLog) -> None:
    with suppress(InvalidTransition):
        taskcontrol.move_to_front(task.pk)


def give_a_sign_of_life(task: TaskLog) -> None:
    """What the keeper does each time: its worker's row, and the places of bodies that are gone."""
    Worker.objects.filter(pk=task.worker_id, lost_at=None).update(
        last_seen_at=seconds_ago(0)
    )
    lifecycle.release(task.pk, task.attempt)


ACTS = {
    "dispatch": Act(lambda task: dispatch.dispatch_pending(), (Status.PENDING,), True),
    "claim": Act(
        lambda task: lifecycle.claim(task.pk, task.attempt, worker_id=None, pid=1),
        (Status.QUEUED,),
    ),
    "sign of life": Act(give_a_sign_of_life, (Status.CANCELED, Status.FAILED)),
    "finish": Act(lambda task: lifecycle.finish(task.pk, task.attempt), (Status.STARTED,)),
    "cancel": Act(
        lambda task: taskcontrol.cancel(task.pk),
        (Status.PENDING, Status.PAUSED, Status.QUEUED, Status.STARTED, Status.FAILED),
    ),
    "sweep": Act(
        lambda task: rescue.rescue_lost_tasks(),
        (Status.STARTED, Status.CANCELED, Status.FAILED),
        True,
    ),
    "retry": Act(retry_by_hand, (Status.FAILED, Status.CANCELED)),
    "edit": Act(move_to_front, (Status.PENDING, Status.PAUSED)),
}


def make_one(status: Status) -> TaskLog:
    """Store a task of a worker that counts as lost; its place is held where that may be."""
    for model in (TaskAttempt, TaskEvent, TaskLog, Worker):
        model.objects.all().delete()
    make_worker()
    # Lost by now, lest the sign of life and the sweep fight for its row and not the task's.
    columns: dict[str, Any] = {"worker": make_worker(lost_at=seconds_ago(5))}
    if status in {Status.CANCELED, Status.FAILED}:
        columns["occupies"] = True
    if status is Status.FAILED:
        columns |= {"max_retries": 1, "retry_at": seconds_ago(1)}
    return make_task(
        status, **({} if status in {Status.PENDING, Status.PAUSED} else columns)
    )


def standing(task: TaskLog) -> tuple[Any, ...]:
    """Return what became of it, without times."""
    columns = (
        "status",
        "attempt",
        "occupies",
        "retry_count",
        "lost_count",
        "at_front",
        "rev",
    )
    (row,) = TaskLog.objects.filter(pk=task.pk).values_list(*columns)
    kept = TaskAttempt.objects.filter(task=task.pk).count()
    events = TaskEvent.objects.filter(task_id=task.pk).values_list("kind", flat=True)
    return (*row, kept, tuple(sorted(events)))


def one_after_the_other(status: Status, *acts: Act) -> tuple[Any, ...]:
    task = make_one(status)
    for act in acts:
        act.call(task)
    return standing(task)


def begin_beside(pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Future[Any]:
    def run() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    return pool.submit(run)


_LOOK_EVERY = {"postgresql": 0.005, "mysql": 0.11}


def somebody_waits() -> bool:
    sql = {
        "postgresql": "SELECT COUNT(*) FROM pg_locks WHERE NOT granted",
        "mysql": "SELECT COUNT(*) FROM information_schema.innodb_trx "
        "WHERE trx_state = 'LOCK WAIT'",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return bool(cursor.fetchone()[0])


def at_once(status: Status, first: Act, second: Act) -> tuple[tuple[Any, ...], bool]:
    """Let ``second`` act while ``first`` has not committed; return the end, and who waited."""
    task = make_one(status)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first.call(task)
            beside = begin_beside(pool, lambda: second.call(task))
            # Not more often, and not at once after the pair before: MariaDB renews what it
            # tells after a tenth of a second of peace.
            pause = _LOOK_EVERY[connection.vendor]
            wait([beside], timeout=pause)
            eventually(lambda: beside.done() or somebody_waits(), every=pause)
            waited = not beside.done()
        beside.result(30)
    return standing(task), waited


@pytest.mark.parametrize("first", ACTS)
def test_two_acts_on_one_task_at_once_are_as_one_after_the_other(first):
    dispatch.can_dispatch_now()
    make_type()
    for second, act in ACTS.items():
        for status in ACTS[first].statuses:
            alone = one_after_the_other(status, ACTS[first])
            both = one_after_the_other(status, ACTS[first], act)

            seen, waited = at_once(status, ACTS[first], act)

            pair = f"{first}, then {second}, of {status}"
            # Who did not wait saw the task as it was before, and found nothing to do.
            assert seen in ({both} if waited else {both, alone}), pair
            if act.passes_over and second != first:
                assert not waited, pair


# The order


def a_batch(*statuses: Status, **columns: Any) -> TaskBatch:
    batch = make_batch(**columns)
    for number, status in enumerate(statuses):
        make_task(status, batch_id=batch.pk, batch_order=number)
    return batch


def enqueue_with_keys() -> None:
    for key in ("b", "a"):
        taskcontrol.enqueue("tests.tasks.nothing", job_id=key, on_duplicate="replace")
    taskcontrol.bulk_enqueue(
        [{"job_id": key, "deduplicate": True} for key in ("d", "a", "c")],
        "with-keys",
        method="tests.tasks.nothing",
    )


def retry_a_task_with_a_key_in_a_batch() -> None:
    options: dict[str, Any] = {"job_id": "k", "deduplicate": True, "batch_id": "mine"}
    task = taskcontrol.enqueue("tests.tasks.nothing", **options)
    taskcontrol.cancel(task)
    taskcontrol.retry(task)


def hold_a_batch_back() -> None:
    a_batch(
        Status.FAILED, Status.PENDING, Status.QUEUED, on_failure=TaskBatch.OnFailure.HOLD
    )
    settling.settle_batches()


def end_a_batch() -> None:
    a_batch(Status.FINISHED)
    settling.settle_batches()


def steer_a_batch() -> None:
    each = (Status.PENDING, Status.QUEUED, Status.STARTED, Status.FAILED)
    batch = a_batch(*each, *each)
    for steer in (
        batchcontrol.pause_batch,
        batchcontrol.resume_batch,
        batchcontrol.retry_batch,
        batchcontrol.cancel_batch,
    ):
        steer(batch.pk)


def prune_a_member() -> None:
    a_batch(Status.FINISHED)
    TaskLog.objects.update(ended_at=seconds_ago(400 * 86400.0))
    TaskKey.objects.create(key="k", slot=0, task=TaskLog.objects.get())
    assert pruning.prune_ended_tasks() == 1


def make_a_pass() -> None:
    make_worker()
    make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(1))
    make_task(expires_at=seconds_ago(1))
    make_task(run_at=seconds_ago(1), ready_lane=None)
    make_task(after=make_task(Status.FINISHED), ready_lane=None)
    hold_a_batch_back()
    dispatch.dispatch_pending()


def sweep() -> None:
    lost = make_worker(last_seen_at=seconds_ago(60))
    for status in (Status.STARTED, Status.CANCELED):
        make_task(status, worker=lost, occupies=True)
    make_task(Status.QUEUED, sent_at=seconds_ago(60))
    make_worker()
    rescue.rescue_lost_tasks()
    resending.resend_unclaimed()


def suspend() -> None:
    for enable in (False, True):
        taskcontrol.toggle_dispatcher(enable=enable)


def fire() -> None:
    taskcontrol.schedules.create("tests.tasks.nothing", name="nightly", every=3600)
    Schedule.objects.update(next_run_at=seconds_ago(1))
    assert firing.fire_due_schedules() == 1


def pause_all_of_a_kind() -> None:
    for scope in (make_type("paused"), QueueState.objects.create(name="default")):
        pausing.pause_all(scope)
        pausing.resume_all(scope)


def drain() -> None:
    draining.drain_worker(make_worker())


def report_twice() -> None:
    for _ in range(2):
        incidents.report(incidents.Kind.LOST, "It is gone.")


def learn() -> None:
    make_type("learned")
    ran = {"ended_at": seconds_ago(1), "time_taken": timedelta(seconds=1)}
    make_task(Status.FINISHED, method="learned", **ran)
    DispatcherState.objects.update(learned_at=None)
    assert measures.learn() == 1


def each_act() -> None:
    for act in ACTS.values():
        for status in act.statuses:
            act.call(make_one(status))


LOCKERS = (
    enqueue_with_keys,
    retry_a_task_with_a_key_in_a_batch,
    hold_a_batch_back,
    end_a_batch,
    steer_a_batch,
    prune_a_member,
    make_a_pass,
    sweep,
    suspend,
    fire,
    pause_all_of_a_kind,
    drain,
    report_twice,
    learn,
    each_act,
)


def test_whatever_locks_rows_locks_them_in_the_order_that_is_written_down():
    dispatch.can_dispatch_now()
    met: set[str] = set()
    for locker in LOCKERS:
        for model in (TaskLog, TaskBatch, TaskKey, Worker):
            model.objects.all().delete()
        with watched() as watch:
            locker()
        assert watch.seen, f"{locker.__name__} has locked nothing"
        met |= {table for tables in watch.seen for table in tables}

    assert met == set(ORDER)


def one_of(batch: TaskBatch, status: Status) -> TaskLog:
    return TaskLog.objects.filter(batch_id=batch.pk, status=status)[0]


#: What a caller may do in a transaction of his own, to a batch with a task of each status.
IN_A_TRANSACTION: dict[str, Callable[[TaskBatch], Any]] = {
    "cancel": lambda batch: taskcontrol.cancel(one_of(batch, Status.PENDING)),
    "retry": lambda batch: taskcontrol.retry(one_of(batch, Status.FAILED)),
    "copy": lambda batch: taskcontrol.run_again(one_of(batch, Status.FAILED)),
    "enqueue": lambda batch: taskcontrol.enqueue(
        "tests.tasks.nothing", job_id="k", on_duplicate="replace", batch_id=batch.pk
    ),
    "bulk": lambda batch: taskcontrol.bulk_enqueue(
        [{"job_id": key} for key in ("k", "d", "a", "c")],
        batch.pk,
        method="tests.tasks.nothing",
        on_duplicate="replace",
    ),
    "cancel the batch": lambda batch: batchcontrol.cancel_batch(batch.pk),
    "pause the batch": lambda batch: batchcontrol.pause_batch(batch.pk),
    "resume the batch": lambda batch: batchcontrol.resume_batch(batch.pk),
    "retry the batch": lambda batch: batchcontrol.retry_batch(batch.pk, canceled=True),
    "dispatch": lambda batch: dispatch.dispatch_pending(),
    "settle": lambda batch: settling.settle_batches(),
    "prune": lambda batch: pruning.prune_ended_tasks(),
}


@pytest.mark.parametrize("name", IN_A_TRANSACTION)
def test_in_a_callers_transaction_rows_are_locked_in_that_order_too(name, monkeypatch):
    monkeypatch.setattr(enqueueing, "CHUNK", 1)
    dispatch.can_dispatch_now()
    batch = a_batch(*Status, *Status, paused_at=seconds_ago(1))
    for key in ("z", "b"):
        options = {"job_id": key, "deduplicate": True, "batch_id": batch.pk}
        taskcontrol.cancel(taskcontrol.enqueue("tests.tasks.nothing", **options))
    taskcontrol.enqueue("tests.tasks.nothing", job_id="k", deduplicate=True)

    with watched() as watch, transaction.atomic():
        IN_A_TRANSACTION[name](batch)

    assert watch.seen


def test_the_order_is_that_of_the_architecture():
    text = (Path(settings.BASE_DIR) / "ARCHITECTURE.md").read_text()
    section = re.split(r"^## ", text.partition("## Locks")[2], flags=re.MULTILINE)[0]
    words = (
        "the dispatcher's row",
        "a worker's",
        "a schedule's row",
        "a type's",
        "a queue's",
        "keys",
        "task rows",
        "batch's row",
        "intervals",
        "an incident's",
    )

    places = [section.find(one) for one in words]

    assert -1 not in places
    assert places == sorted(places)
    assert len(words) == len(ORDER)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda task: (
            TaskBatch.objects.select_for_update().first(),
            TaskLog.objects.select_for_update().first(),
        ),
        lambda task: (
            TaskKey.objects.create(key="k", slot=0, task=task),
            TaskLog.objects.filter(pk=task.pk).update(rev=1),
            TaskKey.objects.filter(task_id=task.pk).update(slot=1),
        ),
        lambda task: TaskLog.objects.filter(pk__in=[task.pk, 7]).update(rev=1),
        lambda task: (
            TaskLog.objects.filter(pk=make_task().pk).update(rev=1),
            TaskLog.objects.filter(pk=task.pk).update(rev=1),
        ),
        lambda task: (
            TaskLog.objects.filter(pk=task.pk).update(rev=1),
            TaskBatch.objects.filter(pk=make_batch().pk).update(total=1),
            TaskLog.objects.filter(pk=make_task().pk).update(rev=1),
        ),
        lambda task: [keys.lock([keys.Key(text)]) for text in ("b", "a")],
        lambda task: (
            keys.lock([keys.Key("a", "document")]),
            keys.lock([keys.Key("b", "job")]),
        ),
    ],
    ids=[
        "a batch before a task",
        "a task before a key",
        "several tasks",
        "tasks in falling order",
        "a batch between two tasks",
        "keys in falling order",
        "a document before a job",
    ],
)
def test_another_order_is_noticed(wrong):
    task = make_task()

    with watched(), transaction.atomic(), pytest.raises(WrongOrder):
        wrong(task)


def test_two_bulk_acts_on_the_same_rows_do_not_block_each_other():
    """Their queries bring the rows in other orders."""
    ids = [make_task(Status.PAUSED).pk for _ in range(40)]
    front = TaskLog.objects.filter(pk__in=ids).order_by("pk")
    back = TaskLog.objects.filter(pk__in=ids).order_by("-pk")
    for _ in range(5):
        answers = race(
            lambda: lifecycle.cancel_all(front, Status.PAUSED),
            lambda: lifecycle.resume_all(back),
        )
        assert sum(answers) == len(ids), answers
        TaskLog.objects.update(status=Status.PAUSED, ended_at=None, ready_lane=None)


def test_who_waits_for_a_task_holds_nothing_that_its_holder_needs():
    """MariaDB locks what it reads, and would read several tasks by the index of their status."""
    ids = [make_task(Status.CANCELED).pk for _ in range(4)]
    rows = TaskLog.objects.filter(pk__in=ids)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            task = TaskLog.objects.select_for_update().get(pk=ids[1])
            beside = begin_beside(pool, lambda: lifecycle.retry_all(rows, Status.CANCELED))
            eventually(somebody_waits, every=_LOOK_EVERY[connection.vendor])
            lifecycle.retry_by_hand(task.pk, Status.CANCELED)
        assert beside.result(30) == 3


def test_a_pause_waits_for_the_resume_of_its_batch_and_holds_nothing_then():
    batch = a_batch(Status.PENDING, paused_at=seconds_ago(1))
    members = TaskLog.objects.filter(batch_id=batch.pk)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            batchcontrol.resume_batch(batch.pk)
            hold = partial(batchcontrol._hold_page, batch.pk, members, None)
            beside = begin_beside(pool, hold)
            eventually(
                lambda: beside.done() or somebody_waits(),
                every=_LOOK_EVERY[connection.vendor],
            )
        assert beside.result(30) == 0


STEERS = {
    "cancel": (batchcontrol.cancel_batch, Status.PAUSED),
    "resume": (batchcontrol.resume_batch, Status.PAUSED),
    "retry": (batchcontrol.retry_batch, Status.FAILED),
}


@pytest.mark.parametrize("name", STEERS)
def test_who_steers_a_batch_in_a_transaction_waits_for_no_task_with_the_batch_in_hand(name):
    steer, status = STEERS[name]
    batch = a_batch(status, paused_at=seconds_ago(1))

    def in_a_transaction() -> None:
        with transaction.atomic():
            steer(batch.pk)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            TaskLog.objects.select_for_update().get()
            beside = begin_beside(pool, in_a_transaction)
            eventually(somebody_waits, every=_LOOK_EVERY[connection.vendor])
            taskcontrol.enqueue("tests.tasks.nothing", batch_id=batch.pk)
        assert beside.result(30) is None

    members = TaskLog.objects.filter(batch_id=batch.pk)
    left = {"cancel": {Status.CANCELED}}.get(name, {Status.PENDING})
    assert {one.status for one in members} == left


def test_two_who_enqueue_many_with_the_same_keys_do_not_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(enqueueing, "CHUNK", 1)
    for number in range(5):
        names = [f"{number}-{letter}" for letter in "abcdefgh"]
        answers = race(
            *[partial(enqueue_all, keys) for keys in (names, names[::-1], names)]
        )
        assert not [one for one in answers if isinstance(one, Exception)], answers


def enqueue_all(keys: list[str]) -> str:
    same = {"method": "tests.tasks.nothing", "on_duplicate": "replace"}
    return taskcontrol.bulk_enqueue([{"job_id": key, **same} for key in keys])


# A storm


def test_eight_who_do_everything_to_the_same_tasks_meet_no_deadlock():
    dispatch.can_dispatch_now()
    make_type(concurrency_limit=3)
    make_worker(pool_size=4)
    batch = make_batch()
    ids = [make_task(batch_id=batch.pk, max_retries=2).pk for _ in range(12)]
    lost = make_worker(lost_at=seconds_ago(5)).pk

    def claim(pk: int) -> None:
        attempt = TaskLog.objects.values_list("attempt", flat=True).get(pk=pk)
        if lifecycle.claim(pk, attempt, worker_id=None, pid=1) and random.random() < 0.5:
            # Of a worker that is declared lost from then on.
            started = TaskLog.objects.filter(pk=pk, attempt=attempt, status=Status.STARTED)
            started.update(worker=lost)

    def end(pk: int) -> None:
        attempt = TaskLog.objects.values_list("attempt", flat=True).get(pk=pk)
        if not lifecycle.fail(pk, attempt, error="E: bad", retry_in=0):
            lifecycle.release(pk, attempt)

    acts: list[Callable[[int], Any]] = [
        lambda pk: dispatch.dispatch_pending(),
        lambda pk: dispatch.dispatch_pending(),
        claim,
        claim,
        end,
        end,
        taskcontrol.cancel,
        taskcontrol.retry,
        taskcontrol.pause,
        taskcontrol.resume,
        taskcontrol.move_to_front,
        lambda pk: rescue.rescue_lost_tasks(),
        lambda pk: batchcontrol.pause_batch(batch.pk),
        lambda pk: batchcontrol.resume_batch(batch.pk),
        lambda pk: batchcontrol.retry_batch(batch.pk, canceled=True),
        lambda pk: settling.settle_batches(),
        lambda pk: taskcontrol.enqueue(
            "tests.tasks.nothing", job_id=f"k{pk % 2}", on_duplicate="replace"
        ),
    ]

    def storm(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(40):
            with suppress(InvalidTransition, KeyTaken):
                dice.choice(acts)(dice.choice(ids))

    answers = race(*[lambda seed=seed: storm(seed) for seed in range(8)], timeout=300)

    assert answers == [None] * 8
    attempts = TaskAttempt.objects.values_list("task_id", "attempt")
    assert len(attempts) == len(set(attempts))
