"""P5: the order in which tasks are promoted, seen from the order in which bodies begin."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.models import TaskLog
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import all_ended, ended, row
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def started(record):
    """Return the tags of the bodies in the order in which they began."""
    return [line["tag"] for line in record.lines("started") if "tag" in line]


def hold_slot(record):
    """Occupy the only slot until released."""
    task = taskcontrol.enqueue(tasks.sleep, seconds=60)
    eventually(lambda: record.lines("started", task=task.pk))
    return task


def test_with_one_slot_bodies_begin_in_the_order_of_promotion_p5(one_slot, record):
    make_type("tests.tasks.recorded")
    rows = [taskcontrol.enqueue(tasks.recorded, tag=f"{n}") for n in range(40)]

    all_ended(rows)

    assert started(record) == [f"{n}" for n in range(40)]
    keys = [task.pk for task in rows]
    promoted = sorted(keys, key=lambda pk: (row(pk).queued_at, pk))
    assert promoted == keys


def test_a_late_urgent_task_overtakes_all_that_are_pending_p5(one_slot, record):
    make_type("tests.tasks.recorded")
    slot = hold_slot(record)
    rows = [taskcontrol.enqueue(tasks.recorded, tag="calm") for _ in range(100)]
    rows.append(taskcontrol.enqueue(tasks.recorded, tag="urgent", priority=10))
    rows.append(taskcontrol.enqueue(tasks.recorded, tag="last", priority=-10))
    rows.append(taskcontrol.enqueue(tasks.recorded, tag="front", at_front=True))

    taskcontrol.cancel(slot)

    all_ended(rows)
    assert started(record)[:3] == ["front", "urgent", "calm"]
    assert started(record)[-1] == "last"


def test_an_urgent_task_overtakes_a_running_stream_of_short_ones_p5(one_slot, record):
    make_type("tests.tasks.recorded")
    batch = taskcontrol.bulk_enqueue(
        {"method": tasks.recorded, "tag": "calm", "seconds": 0.02} for _ in range(300)
    )
    eventually(lambda: len(record.lines("ended")) > 60)

    urgent = taskcontrol.enqueue(tasks.recorded, tag="urgent", priority=10)
    before = len(started(record))

    ended(urgent)
    # What waits in the broker is worth a tenth of a second.
    assert started(record).index("urgent") - before <= 15
    for task in TaskLog.objects.pending().filter(batch_id=batch):
        taskcontrol.cancel(task)
    all_ended(TaskLog.objects.filter(batch_id=batch))


def test_the_priority_of_the_type_counts_where_the_task_has_none_p5(one_slot, record):
    make_type("tests.tasks.recorded", priority=0)
    make_type("tests.tasks.whoami", priority=5)
    slot = hold_slot(record)
    rows = [
        taskcontrol.enqueue(tasks.recorded, tag="0"),
        taskcontrol.enqueue(tasks.whoami),
        taskcontrol.enqueue(tasks.recorded, tag="6", priority=6),
    ]

    taskcontrol.cancel(slot)

    low, middle, high = all_ended(rows)
    assert high.started_at <= middle.started_at <= low.started_at
    assert started(record) == ["6", "0"]


def test_a_task_retried_now_is_first_but_under_its_limit_p5(one_slot, record):
    make_type("tests.tasks.recorded")
    failed = ended(taskcontrol.enqueue(tasks.fail_recorded, tag="retried"))
    slot = hold_slot(record)
    rows = [taskcontrol.enqueue(tasks.recorded, tag=f"{n}", at_front=True) for n in "ab"]

    taskcontrol.retry(failed, now=True)
    taskcontrol.cancel(slot)

    all_ended(rows)
    assert started(record) == ["retried", "retried", "a", "b"]


def test_a_batch_keeps_its_own_order_p5(one_slot, record):
    make_type("tests.tasks.recorded")
    slot = hold_slot(record)
    batch = taskcontrol.bulk_enqueue(
        {"method": tasks.recorded, "tag": f"{n}", "batch_order": n} for n in (3, 1, 2, 0)
    )

    taskcontrol.cancel(slot)

    all_ended(TaskLog.objects.filter(batch_id=batch))
    assert started(record) == ["0", "1", "2", "3"]


def test_a_paused_task_goes_on_at_its_old_place_p5(one_slot, record):
    make_type("tests.tasks.recorded")
    slot = hold_slot(record)
    rows = [taskcontrol.enqueue(tasks.recorded, tag=f"{n}") for n in range(3)]
    taskcontrol.pause(rows[1])
    taskcontrol.resume(rows[1])

    taskcontrol.cancel(slot)

    all_ended(rows)
    assert started(record) == ["0", "1", "2"]
