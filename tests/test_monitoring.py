"""The numbers of ``status`` and of the screens, against rows that are known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import taskcontrol
from taskcontrol import monitoring
from taskcontrol.beating import beat_was_here
from taskcontrol.models import DispatcherState, QueueState, TaskLog
from taskcontrol.monitoring import QueueNumbers, WorkerNumbers
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_user, make_worker, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

MOST_STATEMENTS = 13


def queue(name: str = "default") -> QueueNumbers:
    (found,) = [one for one in monitoring.snapshot().queues if one.name == name]
    return found


def workers() -> dict[str, WorkerNumbers]:
    return {one.name: one for one in monitoring.snapshot().workers}


# Tasks by status


def test_every_status_is_counted_and_named():
    for number, status in enumerate(Status, start=1):
        for _ in range(number):
            make_task(status)

    counts = monitoring.count_by_status()

    assert counts.by_status == {status: n for n, status in enumerate(Status, start=1)}
    assert counts.finished_is_more is False


def test_without_tasks_every_status_is_zero():
    assert monitoring.count_by_status().by_status == dict.fromkeys(Status.values, 0)


def test_finished_tasks_are_counted_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(monitoring, "MOST_FINISHED", 3)
    make_task(Status.FAILED)
    make_task(Status.CANCELED)
    finished = [make_task(Status.FINISHED) for _ in range(3)]

    assert monitoring.count_by_status().finished_is_more is False

    make_task(Status.FINISHED)
    counts = monitoring.count_by_status()

    assert counts.by_status[Status.FINISHED] == len(finished)
    assert counts.finished_is_more is True


# Queues


def test_known_queues_are_listed_without_work():
    assert {one.name for one in monitoring.snapshot().queues} == {
        "short",
        "default",
        "long",
    }


def test_a_queue_that_no_setting_knows_any_more_is_listed_while_it_has_work():
    make_task(queue="old")

    assert queue("old").pending == 1


def test_a_queue_counts_what_waits_and_what_holds_places():
    worker = make_worker(pool_size=8)
    for method in ("tests.tasks.nothing", "tests.tasks.nothing", "tests.tasks.add"):
        make_task(method=method)
    make_task(run_at=timezone.now() + timedelta(hours=1))
    make_task(Status.QUEUED)
    make_task(Status.STARTED, worker=worker)
    make_task(Status.CANCELED, occupies=True, worker=worker)
    make_task(Status.FINISHED)
    make_task(queue="long")

    found = queue()

    assert (found.pending, found.later, found.queued) == (3, 1, 1)
    assert (found.started, found.stopping) == (1, 1)
    assert (found.workers, found.slots) == (1, 8)


def test_the_oldest_waiting_task_of_a_queue_is_named():
    make_task(method="tests.tasks.add", created_at=seconds_ago(10))
    old = make_task(created_at=seconds_ago(100))
    make_task(created_at=seconds_ago(50))

    found = queue()

    assert found.oldest_task == old.pk
    assert found.oldest_seconds == pytest.approx(100, abs=5)


def test_a_task_for_later_waits_from_its_time_on():
    make_task(created_at=seconds_ago(1000), run_at=seconds_ago(10))

    assert queue().oldest_seconds == pytest.approx(10, abs=5)


def test_a_queue_without_work_has_no_oldest_task():
    assert queue().oldest_task is None
    assert queue().oldest_seconds is None


def test_a_paused_queue_is_marked_until_its_pause_is_over():
    QueueState.objects.create(name="default", paused_at=seconds_ago(5))
    QueueState.objects.create(
        name="long", paused_at=seconds_ago(5), paused_until=seconds_ago(1)
    )

    assert (queue("default").paused, queue("long").paused) == (True, False)


# Workers


def test_workers_are_listed_with_what_they_are_at():
    make_worker(hostname="live@here", memory_kb=1024)
    make_worker(hostname="silent@here", last_seen_at=seconds_ago(60))
    make_worker(hostname="hung@here", consuming=False)
    make_worker(hostname="leaving@here", leaving_at=seconds_ago(1))
    make_worker(hostname="lost@here", lost_at=seconds_ago(60))
    make_worker(hostname="long-lost@here", lost_at=seconds_ago(7200))
    make_worker(hostname="gone@here", left_at=seconds_ago(1))

    assert {name: one.state for name, one in workers().items()} == {
        "live@here": "live",
        "silent@here": "silent",
        "hung@here": "not consuming",
        "leaving@here": "leaving",
        "lost@here": "lost",
    }


def test_a_worker_is_as_busy_as_it_has_bodies():
    worker = make_worker(hostname="one@here", pool_size=4)
    make_task(Status.STARTED, worker=worker)
    make_task(Status.FAILED, occupies=True, worker=worker)
    make_task(Status.QUEUED)
    make_task(Status.FINISHED, worker=worker)

    assert (workers()["one@here"].busy, workers()["one@here"].slots) == (2, 4)


def test_what_a_worker_has_claimed_takes_the_slots_that_no_body_has():
    """As a pass counts: the rest waits for the same slots."""
    worker = make_worker(hostname="one@here", pool_size=4)
    other = make_worker(hostname="two@here", pool_size=4)
    make_task(Status.STARTED, worker=worker)
    for _ in range(5):
        make_task(Status.QUEUED, worker=worker)
    make_task(Status.QUEUED, worker=other)

    assert {name: one.busy for name, one in workers().items()} == {
        "one@here": 4,
        "two@here": 1,
    }


def test_only_workers_that_take_tasks_serve_a_queue():
    make_worker(pool_size=2)
    make_worker(pool_size=4, last_seen_at=seconds_ago(60))
    make_worker(pool_size=8, leaving_at=seconds_ago(1))

    assert (queue().workers, queue().slots) == (1, 2)


# The dispatcher and beat


def test_a_fresh_dispatcher_has_no_signs_of_life():
    found = monitoring.snapshot().dispatcher

    assert found.suspended is False
    assert found.last_pass_seconds is None
    assert found.beat_is_silent is True


def test_signs_of_life_are_told_as_ages():
    dispatcher_state()
    beat_was_here()
    DispatcherState.objects.update(
        last_pass_at=seconds_ago(5), last_promoted_at=seconds_ago(50)
    )

    found = monitoring.snapshot().dispatcher

    assert found.last_pass_seconds == pytest.approx(5, abs=3)
    assert found.last_promoted_seconds == pytest.approx(50, abs=3)
    assert found.beat_seconds == pytest.approx(0, abs=3)
    assert found.beat_is_silent is False


def test_beat_is_silent_after_a_minute():
    dispatcher_state()
    DispatcherState.objects.update(beat_seen_at=seconds_ago(90))

    found = monitoring.snapshot().dispatcher

    assert found.beat_is_silent is True


def test_a_suspended_dispatcher_says_who_and_why():
    ann = make_user("ann", "control_dispatcher")
    taskcontrol.toggle_dispatcher(enable=False, user=ann, reason="deploy")

    found = monitoring.snapshot().dispatcher

    assert (found.suspended, found.suspended_by) == (True, "ann")
    assert found.suspended_reason == "deploy"


# The cost


def test_a_snapshot_costs_the_same_however_many_tasks_there_are():
    dispatcher_state()

    def statements() -> int:
        with CaptureQueriesContext(connection) as seen:
            monitoring.snapshot()
        return len(seen)

    make_task()
    make_worker()
    one = statements()
    for number in range(30):
        make_task(queue=("short", "long")[number % 2], priority=number)
        make_worker()

    assert statements() == one <= MOST_STATEMENTS


def test_reading_the_numbers_changes_no_task():
    task = make_task()
    monitoring.snapshot()

    assert TaskLog.objects.get(pk=task.pk).rev == task.rev
