"""What one reading tells: the truth of the rows, each change once, to those who may see it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from taskcontrol.live import reading as reading_room, states
from taskcontrol.live.reader import Reader
from taskcontrol.live.reading import Reading
from taskcontrol.live.states import tasks_by_id
from taskcontrol.live.watching import Asked, Watch
from taskcontrol.models import TaskBatch, TaskLog
from tests.factories import make_task, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def watcher(**asked):
    """Return one who sees everything, unless said otherwise."""
    return Watch(Asked(**{"user_id": 1, "sees_all": True, **asked}), ring=lambda: None)


def mail_of(watch):
    """Return what waits in a mailbox, as (event, told)."""
    parts = (frame.decode().split("\n") for frame in watch.take())
    return [(name[7:], json.loads(data[6:])) for name, data, *_ in parts]


def test_each_change_is_told_once():
    task = make_task()
    watch, reading = watcher(tasks=frozenset([task.pk])), Reading()
    reading.read([watch], [watch], set())
    assert mail_of(watch)[0][0] == "snapshot"
    reading.read([watch], [], {task.pk})
    assert mail_of(watch) == []
    TaskLog.objects.filter(pk=task.pk).update(rev=7)
    reading.read([watch], [], {task.pk})
    assert [(event, told["rev"]) for event, told in mail_of(watch)] == [("task", 7)]


def test_only_the_newest_news_of_a_thing_waits():
    task = make_task()
    watch, reading = watcher(tasks=frozenset([task.pk])), Reading()
    for rev in (1, 2, 3):
        TaskLog.objects.filter(pk=task.pk).update(rev=rev)
        reading.read([watch], [], {task.pk})
    assert [told["rev"] for _, told in mail_of(watch)] == [3]


def test_what_no_poke_told_is_read_when_everything_is():
    task = make_task()
    watch, reading = watcher(tasks=frozenset([task.pk])), Reading()
    reading.read([watch], [watch], set())
    TaskLog.objects.filter(pk=task.pk).update(rev=9)
    watch.take()
    reading.read([watch], [], set())
    assert mail_of(watch) == []
    reading.read_at = float("-inf")
    reading.read([watch], [], set())
    assert [told["rev"] for _, told in mail_of(watch)] == [9]


def test_one_reading_costs_the_same_for_one_page_and_for_a_hundred(
    django_assert_num_queries,
):
    rows = [make_task() for _ in range(5)]
    keys = frozenset(row.pk for row in rows)
    watches, reading = [watcher(tasks=keys) for _ in range(100)], Reading()
    with django_assert_num_queries(1):
        reading.read(watches, watches, set())


def test_a_row_that_cannot_be_read_keeps_no_other_from_its_news(caplog, monkeypatch):
    rows = [make_task() for _ in range(5)]
    told = states._task

    def unreadable(row):
        return told(row) if row["pk"] != rows[2].pk else 1 / 0

    monkeypatch.setattr(states, "_task", unreadable)
    for _ in range(2):
        assert tasks_by_id([row.pk for row in rows]).keys() == {
            row.pk for row in rows if row != rows[2]
        }
    assert caplog.text.count(f"Task {rows[2].pk} cannot be told to live pages") == 1


def test_readings_that_fail_are_logged_once_until_one_goes_well(caplog, monkeypatch):
    watch, reading, reader = watcher(), Reading(), Reader()
    reader._watches.add(watch)
    for fails in (True, True, False, True):
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr(reading, "read", lambda *_: 1 / 0)
            reader._read(reading)
    assert caplog.text.count("Live pages are told nothing for now: ZeroDivisionError") == 2


def test_tasks_of_others_are_not_told_p8():
    task = make_task()
    watch, reading = watcher(tasks=frozenset([task.pk]), sees_all=False), Reading()
    reading.read([watch], [watch], {task.pk})
    assert mail_of(watch) == [
        ("snapshot", {"tasks": [], "own": [], "batches": [], "missing": [task.name]})
    ]


def test_a_batch_ends_by_its_rows_and_not_by_what_a_member_says_p9():
    TaskBatch.objects.create(id="b", total=2)
    said = {"count": 9, "total": 9}
    member = make_task("Started", batch_id="b", progress=said)
    make_task("Finished", batch_id="b")
    watch, reading = watcher(batches=frozenset(["b"])), Reading()
    reading.read([watch], [watch], {member.pk})
    told = mail_of(watch)[-1][1]
    assert (told["batch_done"], told["batch_total"], told["ended"]) == (1, 2, False)


def test_an_error_is_told_by_its_last_line_and_never_the_arguments():
    error = "Traceback …\n  secret = 'hunter2'\nValueError: no"
    task = make_task("Failed", error_message=error, arguments={"password": "hunter2"})
    watch, reading = watcher(tasks=frozenset([task.pk])), Reading()
    reading.read([watch], [watch], set())
    mail = mail_of(watch)
    assert mail[0][1]["tasks"][0]["error"] == "ValueError: no"
    assert "hunter2" not in json.dumps(mail)


def batch_of(*statuses):
    """Return the members of a batch, in these statuses."""
    TaskBatch.objects.create(id="b", total=len(statuses))
    return [make_task(status, batch_id="b", created_by_id=1) for status in statuses]


def test_a_member_is_told_with_the_numbers_of_its_batch():
    first, second = batch_of("Finished", "Started")
    watch, reading = watcher(tasks=frozenset([first.pk]), own=True), Reading()
    reading.read([watch], [watch], set())
    (_, told), *_ = mail_of(watch)
    numbers = {
        (one["batch_done"], one["batch_total"]) for one in told["tasks"] + told["own"]
    }
    assert numbers == {(1, 2)}
    # Batches are not counted at every news: what comes too early waits for the next count.
    TaskLog.objects.filter(pk=second.pk).update(
        rev=9, status="Finished", ended_at=seconds_ago(0)
    )
    reading.read([watch], [], {second.pk})
    assert mail_of(watch) == []
    reading.counted_at = float("-inf")
    reading.read([watch], [], set())
    (event, told), *_ = mail_of(watch)
    assert (event, told["rev"], told["batch_done"], told["batch_total"]) == ("own", 9, 2, 2)


def test_the_first_news_of_a_batch_name_the_member_that_ended_last():
    batch_of("Finished", "Failed")
    TaskLog.objects.filter(status="Failed").update(
        job_name="last", ended_at=seconds_ago(-9)
    )
    watch, reading = watcher(batches=frozenset(["b"])), Reading()
    reading.read([watch], [watch], set())
    told = mail_of(watch)[0][1]["batches"][0]
    assert (told["ended"], told["status"], told["job_name"]) == (True, "Failed", "last")


def test_the_last_news_of_a_batch_are_those_of_who_ended_last_whatever_was_read_before():
    (member,) = batch_of("Started")
    watch, reading = watcher(batches=frozenset(["b"])), Reading()
    reading.moved["b"] = tasks_by_id([member.pk])[member.pk]
    TaskLog.objects.filter(pk=member.pk).update(status="Finished", ended_at=seconds_ago(0))
    reading.read([watch], [], set())
    told = mail_of(watch)[-1][1]
    assert (told["ended"], told["status"]) == (True, "Finished")


def test_a_batch_that_is_not_there_yet_is_not_looked_for_all_the_time():
    watch, reading = watcher(batches=frozenset(["later"])), Reading()
    reading.read([watch], [watch], set())
    assert reading.pause() > 0.5


def test_after_a_reading_that_failed_all_is_told_again_but_not_at_once():
    task = make_task()
    watch, reading = watcher(tasks=frozenset([task.pk])), Reading()
    reading.read([watch], [watch], set())
    watch.take()
    reading.start_over()
    assert reading.pause() > 0.5
    reading.read_at = float("-inf")
    reading.read([watch], [], set())
    assert [event for event, _ in mail_of(watch)] == ["task"]


def test_what_a_member_says_before_the_first_end_is_told_without_a_poke_p10():
    member, _ = batch_of("Started", "Pending")
    watch, reading = watcher(batches=frozenset(["b"])), Reading()
    reading.read([watch], [watch], set())
    assert mail_of(watch)[0][1]["batches"][0]["status"] == "Started"
    TaskLog.objects.filter(pk=member.pk).update(rev=9, progress={"message": "halfway"})
    reading.read_at = float("-inf")
    reading.read([watch], [], set())
    assert [told["message"] for _, told in mail_of(watch)] == ["halfway"]


def test_what_no_poke_told_is_told_within_a_second_of_the_clock_p10(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(reading_room, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    task = make_task()
    watch, reading = watcher(tasks=frozenset([task.pk])), Reading()
    reading.read([watch], [watch], set())
    watch.take()

    for rev, late in enumerate((0.0, 0.3, 0.999), start=5):
        clock[0] += late
        TaskLog.objects.filter(pk=task.pk).update(rev=rev)
        changed_at = clock[0]
        clock[0] += reading.pause()
        reading.read([watch], [], set())
        assert [told["rev"] for _, told in mail_of(watch)] == [rev]
        assert clock[0] - changed_at <= 1.0
