"""P4: a limit is never exceeded by running bodies, whatever happens to them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

import taskcontrol
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import all_ended, ended, is_alive, row
from tests.servers.process import kill_child
from tests.servers.worker import QUICK
from tests.waiting import eventually

pytestmark = pytest.mark.integration

LIMITS = {tasks.limited_to_1: 1, tasks.limited_to_2: 2, tasks.limited_to_5: 5}


@pytest.fixture
def limits():
    """Three types with limits."""
    for method, limit in LIMITS.items():
        make_type(f"tests.tasks.{method.__name__}", concurrency_limit=limit)
    return LIMITS


def test_limits_hold_in_a_storm_p4(start_workers, record, limits):
    start_workers({"concurrency": 4}, {"concurrency": 4})
    dice = random.Random(4)
    rows = [
        taskcontrol.enqueue(
            dice.choice(list(limits)),
            timeout=1,
            max_retries=2,
            arguments={"kind": dice.choice(["ok"] * 30 + STORM)},
        )
        for _ in range(200)
    ]

    eventually(lambda: disturb(dice), 200, every=0.15)

    all_ended(rows, 60)
    for method, limit in limits.items():
        assert most_alive(record, method.__name__) <= limit
    assert most_alive(record, "limited_to_5") > 2, "the limits alone held them back"
    assert TaskLog.objects.filter(status=Status.FINISHED).count() > 100


STORM = ["fail", "over_time", "swallow", "swallow", "die"]


def disturb(dice):
    """Cancel one, kill the process of another; return whether everything has ended."""
    open_rows = TaskLog.objects.exclude(pk__in=TaskLog.objects.ended())
    running = list(open_rows.filter(status=Status.STARTED))
    if running and dice.random() < 0.3:
        taskcontrol.cancel(dice.choice(running))
    if running and dice.random() < 0.1:
        kill_child(dice.choice(running).pid)
    if dice.random() < 0.1:
        waiting = open_rows.filter(status__in=(Status.PENDING, Status.QUEUED)).first()
        if waiting is not None:
            taskcontrol.cancel(waiting)
    return not open_rows.exists()


def most_alive(record, name):
    """Return how many bodies of a type ran at the same time at most.

    A body beats as long as it runs, so the last beat of a killed one is its end.
    """
    lines = record.lines(method=name)
    first, last = {}, {}
    for line in lines:
        key = (line["task"], line["attempt"])
        first.setdefault(key, line["at"])
        last[key] = line["at"]
    moments = [(at, 1) for at in first.values()] + [(at, -1) for at in last.values()]
    running = most = 0
    for _, step in sorted(moments):
        running += step
        most = max(most, running)
    return most


def test_a_rate_holds_over_all_workers_p4(start_workers, record):
    start_workers({"concurrency": 4}, {"concurrency": 4})
    make_type("tests.tasks.recorded", rate_limit="4/s")
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0) for _ in range(14)]

    all_ended(rows, 30)

    times = sorted(TaskLog.objects.values_list("queued_at", flat=True))
    for first, fifth in zip(times, times[4:], strict=False):
        assert (fifth - first).total_seconds() > 0.999


def test_a_raised_limit_is_used_at_once_and_a_lowered_one_is_waited_for_p4(
    start_worker, record
):
    start_worker(concurrency=4)
    kind = make_type("tests.tasks.recorded", concurrency_limit=1)
    rows = [taskcontrol.enqueue(tasks.recorded, seconds=0.5) for _ in range(10)]
    eventually(lambda: record.lines("ended"))

    kind.concurrency_limit = 3
    kind.save()
    eventually(lambda: TaskLog.objects.filter(status=Status.STARTED).count() == 3, 5)
    kind.concurrency_limit = 1
    kind.save()

    all_ended(rows)
    assert record.most_at_once() == 3


def test_a_full_type_holds_up_no_other_p4(worker, record):
    make_type("tests.tasks.recorded", concurrency_limit=1, priority=100)
    full = [taskcontrol.enqueue(tasks.recorded, seconds=1.5) for _ in range(4)]

    other = [taskcontrol.enqueue(tasks.add, left=1) for _ in range(10)]

    all_ended(other, 5)
    assert TaskLog.objects.pending().filter(method="tests.tasks.recorded").count() >= 1
    for task in full:
        taskcontrol.cancel(task)
    all_ended(full)


def test_a_canceled_body_in_c_keeps_its_place_until_it_is_gone_p4(worker, record):
    make_type("tests.tasks.block_in_c", concurrency_limit=1)
    blocked = taskcontrol.enqueue(tasks.block_in_c)
    pid = eventually(lambda: record.lines("started"))[0]["pid"]
    following = taskcontrol.enqueue(tasks.block_in_c)

    taskcontrol.cancel(blocked)

    later = eventually(
        lambda: record.lines("started", task=following.pk), QUICK["CANCEL_GRACE"] + 5
    )
    assert not is_alive(pid)
    assert len(later) == 1
    taskcontrol.cancel(following)
    ended(following)


def test_a_body_that_goes_on_behind_its_end_keeps_its_place_and_is_let_alone_p4(
    worker, record
):
    make_type("tests.tasks.go_on_behind_the_end", concurrency_limit=1)
    both = [taskcontrol.enqueue(tasks.go_on_behind_the_end, seconds=3) for _ in range(2)]

    told = all_ended(both, 20)

    assert [now.result for now in told] == ["all of it"] * 2
    assert record.most_at_once() == 1


def test_the_place_of_a_dead_worker_is_used_again_p4(start_worker, record):
    make_type("tests.tasks.recorded", concurrency_limit=1)
    first = start_worker(["long"], concurrency=1)
    lost = taskcontrol.enqueue(tasks.recorded, queue="long", seconds=30)
    eventually(lambda: record.lines("started"))
    start_worker(["default"], concurrency=1)
    waiting = taskcontrol.enqueue(tasks.recorded)

    first.process.kill()

    assert ended(waiting, 20).status == Status.FINISHED
    assert row(lost).status == Status.PENDING
    taskcontrol.cancel(lost)


def test_a_task_that_is_tried_again_by_hand_waits_for_its_old_body_p4(worker, record):
    task = taskcontrol.enqueue(tasks.swallow_everything, seconds=60)
    eventually(lambda: record.lines("started"))
    taskcontrol.cancel(task)

    taskcontrol.retry(task, now=True)

    eventually(lambda: record.lines("started", attempt=2), QUICK["CANCEL_GRACE"] + 5)
    old = [line["at"] for line in record.lines(attempt=1)]
    assert record.lines("started", attempt=2)[0]["at"] > max(old)
    taskcontrol.cancel(task)
    assert Counter(record.starts()) == {(task.pk, 1): 1, (task.pk, 2): 1}
    ended(task)
