"""Schedules on real workers, with real beats: each time once, one run at a time."""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from taskcontrol import firing, schedules
from taskcontrol.models import Schedule, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import ended
from tests.servers.environment import site_environment
from tests.waiting import eventually

pytestmark = pytest.mark.integration

DATABASE = "django_celery_beat.schedulers:DatabaseScheduler"
SECOND = dt.timedelta(seconds=1)


def runs(status=Status.FINISHED):
    return list(TaskLog.objects.filter(status=status).exclude(schedule="").order_by("pk"))


def test_a_worker_alone_fires_what_is_due_as_the_schedulers_user(worker):
    schedules.create(
        tasks.whoami, every=1, name="often", queue="short", scheduled_against="shop"
    )

    first, second, *_ = eventually(lambda: len(runs()) >= 2 and runs(), 20)

    assert (first.queue, first.schedule, first.event) == ("short", "often", "shop")
    assert first.result == "taskcontrol-scheduler"
    assert second.run_at - first.run_at >= SECOND
    assert first.started_at >= first.run_at


def test_a_run_is_skipped_on_record_while_the_body_of_the_last_one_runs(worker, record):
    one = schedules.create(tasks.sleep, every=1, name="slow", arguments={"seconds": 2.5})

    eventually(lambda: len(runs()) >= 2, 30)

    one.refresh_from_db()
    first, second = runs()[:2]
    assert one.skipped_count >= 2
    assert any(f"task {first.pk} of the last one is still" in why for why in one.skips)
    assert second.started_at >= first.ended_at


def test_two_beats_and_two_workers_fire_each_time_once(start_workers, start_beat, record):
    # Their own clocks sleep: what comes, comes from the beats.
    start_workers(*[{"conf": {"DISPATCH_INTERVAL": 600.0}} for _ in range(2)])
    every = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.create(
        name="by hand",
        task="taskcontrol.enqueue",
        interval=every,
        kwargs=json.dumps({"method": "tests.tasks.recorded"}),
    )
    beats = [start_beat(scheduler=DATABASE) for _ in range(2)]
    for beat in beats:
        eventually(
            lambda beat=beat: "Sending due task by hand" in beat.process.log.read_text(),
            30,
            why=beat.process.tail,
        )
    before = len(runs())

    eventually(lambda: len(runs()) >= before + 4, 20)

    schedules.disable("by hand")
    made = TaskLog.objects.exclude(schedule="").order_by("pk")
    times = [ended(row).run_at for row in made]
    assert all(later - earlier >= SECOND for earlier, later in pairwise(times))
    assert all(at.microsecond == 0 for at in times)
    assert set(record.starts().values()) == {1}
    assert Schedule.objects.get(name="by hand").run_count == len(times)


DIES_BEFORE_ITS_COMMIT = """
import os, signal
import django
django.setup()
from taskcontrol import firing
make = firing.make_task
def make_and_die(*args, **options):
    make(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
firing.make_task = make_and_die
firing.fire_due_schedules()
"""


def test_who_dies_while_firing_leaves_the_run_to_the_next(start_worker):
    one = schedules.create(tasks.nothing, every=86400, name="rare")
    due = one.next_run_at - dt.timedelta(days=2)
    Schedule.objects.update(next_run_at=due)

    command = [sys.executable, "-c", DIES_BEFORE_ITS_COMMIT]
    dead = subprocess.run(command, check=False, env=site_environment(), timeout=60)

    assert dead.returncode == -signal.SIGKILL
    assert not TaskLog.objects.exists()
    one.refresh_from_db()
    assert one.next_run_at == due
    assert firing.fire_due_schedules() == 1
    assert firing.fire_due_schedules() == 0
    assert TaskLog.objects.count() == 1
