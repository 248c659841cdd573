"""Loops over chunks: what is committed, kept, counted and found again, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError, connection, transaction

import taskcontrol
from taskcontrol import lifecycle, pruning
from taskcontrol.context import running
from taskcontrol.currenttask import CurrentTask
from taskcontrol.exceptions import InvalidCall, TaskCanceled
from taskcontrol.execution import run
from taskcontrol.models import Checkpoint, TaskLog
from tests import tasks
from tests.factories import make_task
from tests.models import Counter, Ticket
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


class Stop(Exception):
    """Ends an attempt in the middle."""


@contextmanager
def attempt(task: TaskLog, number: int = 1) -> Iterator[CurrentTask]:
    """Be the next attempt of ``task``."""
    TaskLog.objects.filter(pk=task.pk).update(attempt=number)
    task.attempt = number
    with closing(CurrentTask(task)) as current, running(current):
        yield current


def names() -> list[str]:
    return list(Counter.objects.order_by("pk").values_list("name", flat=True))


def write(items: Any) -> None:
    for item in items:
        Counter.objects.create(name=str(item))


# The loop


def test_items_come_in_chunks_of_the_size_and_the_last_may_be_shorter():
    assert [list(c) for c in taskcontrol.iter_chunks(range(5), size=2)] == [
        [0, 1],
        [2, 3],
        [4],
    ]
    assert [len(c) for c in taskcontrol.iter_chunks(range(1001))] == [500, 500, 1]


def test_no_items_are_no_chunks():
    chunks = taskcontrol.iter_chunks([])

    assert list(chunks) == []
    assert chunks.summary == {"ok": 0, "failed": 0, "total": 0}


def test_outside_of_a_task_each_chunk_is_a_transaction_too():
    def work():
        for chunk in taskcontrol.iter_chunks(range(4), size=2):
            assert connection.in_atomic_block
            write(chunk)
            if 2 in chunk:
                raise Stop

    with suppress(Stop):
        work()

    assert names() == ["0", "1"]
    assert not connection.in_atomic_block
    assert not Checkpoint.objects.exists()


def test_a_break_undoes_the_chunk_it_stands_in():
    for chunk in taskcontrol.iter_chunks(range(4), size=2):
        write(chunk)
        if 2 in chunk:
            break

    assert not connection.in_atomic_block
    assert names() == ["0", "1"]


@pytest.mark.parametrize("way", ["break", "exception"])
def test_in_a_task_too_the_rest_of_the_body_is_in_no_transaction(way):
    task = make_task("Started")
    with attempt(task), suppress(Stop):
        try:
            for chunk in taskcontrol.iter_chunks(range(4), size=2):
                write(chunk)
                if way == "break":
                    break
                raise Stop
        finally:
            assert not connection.in_atomic_block
            write(["rest"])

    assert names() == ["rest"]


def test_stop_ends_the_loop_after_its_chunk():
    task = make_task("Started")
    with attempt(task):
        chunks = taskcontrol.iter_chunks(range(6), size=2)
        for chunk in chunks:
            write(chunk)
            if 2 in chunk:
                chunks.stop()

    assert names() == ["0", "1", "2", "3"]
    assert chunks.summary == {"ok": 4, "failed": 0, "total": 6}
    with attempt(task, 2):
        assert [list(chunk) for chunk in taskcontrol.iter_chunks(range(6))] == [[4, 5]]


def test_what_a_chunk_enqueues_is_enqueued_with_it():
    def work():
        for chunk in taskcontrol.iter_chunks(range(4), size=2):
            for item in chunk:
                taskcontrol.enqueue(tasks.give_back, value=item)
            if 3 in chunk:
                raise Stop

    with suppress(Stop):
        work()

    assert TaskLog.objects.count() == 2


def test_a_chunk_may_be_changed_without_being_counted_wrongly():
    chunks = taskcontrol.iter_chunks(range(4), size=2)
    for chunk in chunks:
        chunk.clear()

    assert chunks.summary == {"ok": 4, "failed": 0, "total": 4}


# Again


@pytest.mark.parametrize(
    "items", [list(range(6)), tuple(range(6)), range(6), "stream"], ids=type
)
def test_the_next_attempt_goes_on_behind_the_last_chunk_that_was_committed(items):
    task = make_task("Started")

    def loop(stop_in):
        given = (n for n in range(6)) if items == "stream" else items
        chunks = taskcontrol.iter_chunks(given, size=2)
        for chunk in chunks:
            write(chunk)
            if stop_in in chunk:
                raise Stop
        return chunks.summary

    with attempt(task), suppress(Stop):
        loop(stop_in=3)
    assert names() == ["0", "1"]
    with attempt(task, 2):
        assert loop(stop_in=None) == {"ok": 6, "failed": 0, "total": 6}
    assert names() == ["0", "1", "2", "3", "4", "5"]
    with attempt(task, 3):
        assert loop(stop_in=None) == {"ok": 6, "failed": 0, "total": 6}
    assert len(names()) == 6


def test_another_size_goes_on_at_the_same_item():
    task = make_task("Started")
    with attempt(task), suppress(Stop):
        for chunk in taskcontrol.iter_chunks(range(6), size=2):
            if 2 in chunk:
                raise Stop

    with attempt(task, 2):
        assert [list(c) for c in taskcontrol.iter_chunks(range(6), size=3)] == [
            [2, 3, 4],
            [5],
        ]


def test_rows_that_a_filter_drops_meanwhile_shift_nothing():
    """By number the second chunk would pass over as many rows as the first has changed."""
    write(range(7))
    waiting = Counter.objects.filter(value=0)
    task = make_task("Started")

    def loop(stop_in=None):
        chunks = taskcontrol.iter_chunks(waiting.order_by("-name"), size=2)
        for chunk in chunks:
            for row in chunk:
                row.raise_by(1)
            if stop_in in {row.name for row in chunk}:
                raise Stop
        return chunks.summary

    with attempt(task), suppress(Stop):
        loop(stop_in="3")
    assert waiting.count() == 5
    with attempt(task, 2):
        assert loop() == {"ok": 7, "failed": 0, "total": 7}
    assert set(Counter.objects.values_list("value", flat=True)) == {1}


def test_rows_with_keys_that_are_no_numbers_are_found_again_too():
    tickets = sorted(str(Ticket.objects.create().pk) for _ in range(5))
    task = make_task("Started")
    seen = []
    for number in (1, 2, 3):
        with attempt(task, number), suppress(Stop):
            for chunk in taskcontrol.iter_chunks(Ticket.objects.all(), size=2):
                if seen and len(seen) < 4 and number == 1:
                    raise Stop
                seen += [str(row.pk) for row in chunk]

    assert sorted(seen) == tickets


def test_loops_with_names_have_places_of_their_own():
    task = make_task("Started")
    with attempt(task), suppress(Stop):
        assert len(list(taskcontrol.iter_chunks(range(4), size=2, name="first"))) == 2
        for chunk in taskcontrol.iter_chunks(range(4), size=2, name="second"):
            if 2 in chunk:
                raise Stop

    with attempt(task, 2):
        assert list(taskcontrol.iter_chunks(range(4), size=2, name="first")) == []
        rest = [list(c) for c in taskcontrol.iter_chunks(range(4), size=2, name="second")]
    assert rest == [[2, 3]]


def test_a_run_in_place_goes_on_in_the_same_attempt(monkeypatch):
    monkeypatch.setattr("taskcontrol.conflicts.PAUSES", (0.01,))
    task = make_task("Queued", method="tests.test_chunks.conflict_once")
    CONFLICTS.clear()

    assert run(task.pk, 1)

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.result, row.attempt) == (
        "Finished",
        {"ok": 4, "failed": 0, "total": 4},
        1,
    )
    assert names() == ["0", "1", "2", "3"]


CONFLICTS: list[int] = []


def conflict_once() -> Any:
    """Raise what calls for another run in place, in the middle of an item."""
    chunks = taskcontrol.iter_chunks(range(4), size=2)
    for chunk in chunks:
        for item in chunk:
            with chunk.item(item):
                write([item])
                if item == 3 and not CONFLICTS:
                    CONFLICTS.append(item)
                    raise taskcontrol.Retry
    return chunks.summary


def test_the_place_goes_with_the_task():
    task = make_task("Started")
    with attempt(task):
        list(taskcontrol.iter_chunks(range(4)))
    assert Checkpoint.objects.count() == 1
    lifecycle.finish(task.pk, task.attempt)

    assert pruning.delete_tasks([task.pk]) == 1

    assert not Checkpoint.objects.exists()


def test_a_loop_that_is_held_on_to_harms_neither_its_end_nor_the_next_task():
    """The traceback keeps it alive until after the end was written."""
    task = make_task("Queued", method="tests.test_chunks.hold_on")
    other = make_task("Queued", method="tests.test_chunks.conflict_once")
    CONFLICTS.append(1)

    assert run(task.pk, 1)
    assert run(other.pk, 1)

    assert set(TaskLog.objects.values_list("status", flat=True)) == {"Failed", "Finished"}
    assert names() == ["0", "1", "2", "3"]
    assert not connection.in_atomic_block


def hold_on() -> None:
    """Leave the loop with its iterator in a variable."""
    loop = iter(taskcontrol.iter_chunks(range(4), size=2))
    write(next(loop))
    raise ValueError


# Items that fail


def test_a_bad_item_is_undone_counted_and_named_and_stops_no_other(caplog):
    task = make_task("Started")
    with attempt(task):
        chunks = taskcontrol.iter_chunks(["a", "bad b", "c", "bad d", "e"], size=2)
        for chunk in chunks:
            for name in chunk:
                with chunk.item(name):
                    tasks.make_counter(name)

    assert names() == ["a", "c", "e"]
    assert chunks.summary == {"ok": 3, "failed": 2, "total": 5}
    assert chunks.errors == [
        {"item": "bad b", "error": "ValueError: bad b is no name"},
        {"item": "bad d", "error": "ValueError: bad d is no name"},
    ]
    assert "Item bad b failed: ValueError: bad b is no name" in caplog.text
    assert "in make_counter" in caplog.text


def test_failures_of_earlier_attempts_are_remembered():
    task = make_task("Started")

    def loop(numbers):
        chunks = taskcontrol.iter_chunks(range(4), size=2)
        for chunk, _ in zip(chunks, numbers, strict=False):
            with chunk.item(chunk[0]):
                raise ValueError(chunk[0])
        return chunks

    with attempt(task):
        loop([1, 2])
    with attempt(task, 2):
        chunks = loop(range(5))
    assert chunks.summary == {"ok": 2, "failed": 2, "total": 4}
    assert [one["item"] for one in chunks.errors] == ["0", "2"]


def test_of_many_failures_the_first_are_kept():
    chunks = taskcontrol.iter_chunks(range(100))
    for chunk in chunks:
        for item in chunk:
            with chunk.item(item):
                raise ValueError("x" * 5000)

    assert chunks.summary == {"ok": 0, "failed": 100, "total": 100}
    assert [one["item"] for one in chunks.errors] == [str(n) for n in range(20)]
    assert len(chunks.errors[0]["error"]) == 300


@pytest.mark.parametrize(
    "error",
    [
        TaskCanceled(),
        SoftTimeLimitExceeded(),
        taskcontrol.Retry(5),
        taskcontrol.Discard("enough"),
        taskcontrol.LockLost("stock"),
        OperationalError("server closed the connection"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_concerns_the_whole_run_is_no_failure_of_an_item(error):
    def work():
        for chunk in taskcontrol.iter_chunks(range(4), size=2):
            with chunk.item(chunk[0]):
                raise error

    with pytest.raises(type(error)):
        work()
    assert not connection.in_atomic_block


# Progress, cancel, fence


def test_each_chunk_is_told_as_progress():
    task = make_task("Started")
    with attempt(task) as current:
        said = []
        chunks = taskcontrol.iter_chunks(["a", "b", "c"], size=2)
        for chunk in chunks:
            said.append(current.progress)
            with chunk.item(chunk[0]):
                raise ValueError
        assert TaskLog.objects.get(pk=task.pk).progress == {"count": 0, "total": 3}

    assert said == [
        {"count": 0, "total": 3},
        {"count": 2, "total": 3, "description": "1 failed"},
    ]
    assert current.progress == {"count": 3, "total": 3, "description": "2 failed"}


def test_of_a_stream_the_end_is_not_told_before_it_is_known():
    with attempt(make_task("Started")) as current:
        chunks = taskcontrol.iter_chunks(iter("abc"), size=2)
        for _ in chunks:
            assert current.progress is not None
            assert "total" not in current.progress
            assert chunks.summary["total"] == current.progress["count"]

    assert chunks.summary == {"ok": 3, "failed": 0, "total": 3}
    assert current.progress == {"count": 3, "total": 3}


def test_a_canceled_task_begins_no_other_chunk_p6():
    task = make_task("Started")

    def numbers():
        yield from range(2)
        assert lifecycle.cancel(task)
        yield from range(2, 4)

    def work():
        for chunk in taskcontrol.iter_chunks(numbers(), size=2):
            write(chunk)

    with attempt(task), pytest.raises(TaskCanceled):
        work()

    assert names() == ["0", "1"]


@pytest.mark.only_on("postgresql")  # elsewhere the open chunk keeps a cancel waiting
def test_in_a_transaction_too_a_canceled_task_begins_no_other_chunk_p6():
    task = make_task("Started")

    def numbers():
        yield from range(2)
        assert beside(lambda: lifecycle.cancel(task))
        yield from range(2, 4)

    def work():
        for chunk in taskcontrol.iter_chunks(numbers(), size=2):
            write(chunk)

    with attempt(task), transaction.atomic():
        with pytest.raises(TaskCanceled):
            work()
        assert names() == ["0", "1"]


def test_a_superseded_attempt_commits_no_chunk_p3():
    task = make_task("Started")

    def work():
        for chunk in taskcontrol.iter_chunks(range(4), size=2):
            write(chunk)
            TaskLog.objects.filter(pk=task.pk).update(attempt=2)

    with attempt(task), pytest.raises(TaskCanceled):
        work()

    assert names() == []
    assert not Checkpoint.objects.exists()


def test_run_at_once_in_a_transaction_chunks_are_savepoints_of_it():
    with transaction.atomic():
        row = taskcontrol.enqueue(
            tasks.make_counters, names=["a", "bad b", "c"], size=2, now=True
        )

    assert row is not None
    assert row.result == {"ok": 2, "failed": 1, "total": 3}
    assert names() == ["a", "c"]


# Refused


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None, "5"])
def test_an_impossible_size_is_refused(size):
    with pytest.raises(InvalidCall, match="size must be a whole number of 1 or more"):
        taskcontrol.iter_chunks([], size)


@pytest.mark.parametrize("name", [None, 5, "x" * 101, "nul\0"])
def test_an_impossible_name_is_refused(name):
    with pytest.raises(InvalidCall, match="name of a loop must be a text of at most 100"):
        taskcontrol.iter_chunks([], name=name)


@pytest.mark.parametrize(
    "items", [{"a"}, frozenset("a"), {"a": 1}, {}.keys(), "text", b"abc"]
)
def test_what_has_no_sure_order_or_is_one_thing_is_refused(items):
    with pytest.raises(InvalidCall, match=r"pass a list, as of sorted"):
        taskcontrol.iter_chunks(items)


def test_what_has_no_items_is_refused():
    with pytest.raises(InvalidCall, match="goes through items, and 7 has none"):
        taskcontrol.iter_chunks(7)


def test_rows_that_cannot_be_read_by_key_are_refused():
    rows = Counter.objects.all()
    for cut in (rows[:5], rows.union(rows)):
        with pytest.raises(InvalidCall, match=r"cut .+ or combined"):
            taskcontrol.iter_chunks(cut)
    for bare in (rows.values("name"), rows.values_list("pk")):
        with pytest.raises(InvalidCall, match="leave values"):
            taskcontrol.iter_chunks(bare)


def test_a_second_loop_without_a_name_is_refused():
    with attempt(make_task("Started")):
        list(taskcontrol.iter_chunks([1]))
        with pytest.raises(InvalidCall, match=r"loop of this name already \(''\), whose"):
            list(taskcontrol.iter_chunks([1]))


def test_a_list_that_is_not_that_of_the_earlier_attempt_is_refused():
    task = make_task("Started")
    with attempt(task):
        list(taskcontrol.iter_chunks(range(1000)))

    with (
        attempt(task, 2),
        pytest.raises(InvalidCall, match=r"given 1,000 items in an earlier .+ and 900 now"),
    ):
        list(taskcontrol.iter_chunks(range(900)))


def test_a_task_that_commits_once_is_refused():
    task = make_task("Started", options={"atomic": True})

    with (
        attempt(task),
        pytest.raises(InvalidCall, match=r"runs with atomic=True, which comm"),
    ):
        list(taskcontrol.iter_chunks([1]))
