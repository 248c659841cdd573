"""Time limits: soft, then hard; the place is kept until the body is gone."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.models import TaskAttempt
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type
from tests.integration.watching import (
    all_ended,
    ended,
    free,
    has_status,
    is_alive,
    kinds,
    row,
)
from tests.servers.worker import QUICK
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

#: Seconds from the soft limit to the forced end, with room for a loaded machine.
GRACE = QUICK["CANCEL_GRACE"] + 4


def test_a_body_over_its_timeout_fails_and_its_process_goes_on(worker, record):
    task = taskcontrol.enqueue(tasks.sleep, timeout=1, arguments={"seconds": 60})

    now = ended(task)

    assert (now.status, now.ended_reason, now.attempt) == (Status.FAILED, "timed out", 1)
    assert "longer than its timeout of 1 s" in now.error_message
    assert 0.9 <= now.time_taken.total_seconds() < 1 + GRACE
    assert is_alive(now.pid)


STUBBORN = [
    *[(tasks.catch_exception, {"seconds": 60})] * 4,
    (tasks.swallow_everything, {"seconds": 60}),
    (tasks.ignore_sigterm, {"seconds": 60}),
    (tasks.block_in_c, {"hold_interpreter": False}),
    (tasks.block_in_c, {"hold_interpreter": True}),
]


def test_bodies_that_go_on_are_failed_once_and_ended_by_force(start_worker, record):
    start_worker(concurrency=len(STUBBORN))
    for method in {method.__name__ for method, _ in STUBBORN}:
        make_type(f"tests.tasks.{method}")

    many = [
        taskcontrol.enqueue(method, timeout=1, arguments=arguments)
        for method, arguments in STUBBORN
    ]

    for now in all_ended(many, 1 + GRACE + 10):
        assert (now.status, now.ended_reason, now.attempt) == (
            Status.FAILED,
            "timed out",
            1,
        )
        assert "ended by force" in now.error_message
        assert (now.retry_count, now.lost_count) == (0, 0)
        eventually(lambda pid=now.pid: not is_alive(pid))
        # One that ends its process by itself has nothing to be told, or is told as it goes.
        eventually(lambda now=now: not kinds(now) or "gone" in kinds(now))
        assert set(kinds(now)) <= {"told", "forced", "gone"}
    assert not TaskAttempt.objects.exists()
    assert set(record.starts().values()) == {1}


def test_a_timed_out_body_keeps_its_place_until_it_is_gone(worker, record):
    make_type("tests.tasks.swallow_everything", concurrency_limit=1)
    slow = taskcontrol.enqueue(
        tasks.swallow_everything, timeout=1, arguments={"seconds": 60}
    )
    following = taskcontrol.enqueue(tasks.swallow_everything, arguments={"seconds": 0})

    ended(following, 30)

    last_word = max(line["at"] for line in record.lines(task=slow.pk))
    assert record.lines("started", task=following.pk)[0]["at"] > last_word
    assert row(slow).status == Status.FAILED


def test_the_retry_of_a_timed_out_task_waits_for_its_body_to_be_gone(worker, record):
    task = taskcontrol.enqueue(
        tasks.swallow_everything, timeout=1, max_retries=1, arguments={"seconds": 60}
    )

    now = ended(task, 40)

    assert (now.status, now.attempt, now.retry_count) == (Status.FAILED, 2, 1)
    first, second = record.lines("started", task=task.pk)
    before = [line["at"] for line in record.lines(task=task.pk, attempt=1)]
    assert second["at"] > max(before)
    assert not is_alive(first["pid"])


def test_what_time_ran_out_for_is_finished_when_it_returns_in_the_grace(worker, record):
    task = taskcontrol.enqueue(tasks.finish_late, timeout=1)

    now = ended(task)

    assert (now.status, now.result) == (Status.FINISHED, "late")


def test_a_time_limit_holds_while_the_broker_is_down(worker, broker, record):
    task = taskcontrol.enqueue(
        tasks.swallow_everything, timeout=2, arguments={"seconds": 60}
    )
    has_status(task, Status.STARTED)
    broker.stop()

    free(task, 2 + 2 * GRACE + 6)

    now = row(task)
    assert (now.status, now.ended_reason) == (Status.FAILED, "timed out")
    assert not is_alive(now.pid)
    # However long the outage, the worker looks every few seconds whether it is over.
    said = worker.process.log.read_text()
    assert "Trying again in 4.00 seconds" in said
    assert "Trying again in 6.00 seconds" not in said
    broker.start()
    ended(taskcontrol.enqueue(tasks.nothing), 15)


def test_the_next_task_of_the_child_is_not_hit_by_a_limit(one_slot, record):
    for _ in range(2):
        # Ends at the very moment at which its limit comes.
        taskcontrol.enqueue(tasks.recorded, timeout=1, arguments={"seconds": 0.99})
        following = taskcontrol.enqueue(tasks.recorded, arguments={"seconds": 0.5})

        now = ended(following)

        assert (now.status, now.attempt, now.error_message) == (Status.FINISHED, 1, "")


def test_a_canceled_body_is_not_failed_by_its_limit(worker, record):
    task = taskcontrol.enqueue(
        tasks.swallow_everything, timeout=2, arguments={"seconds": 60}
    )
    eventually(lambda: record.lines("started"))

    taskcontrol.cancel(task)

    free(task, GRACE)
    always(lambda: row(task).status == Status.CANCELED, 1)
