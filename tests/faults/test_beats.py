"""Two beats, one that is killed, and one that wakes late: each time of a schedule once."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from taskcontrol import schedules
from taskcontrol.models import Schedule, TaskEvent, TaskLog
from taskcontrol.status import Status
from tests.faults.figures import figure
from tests.faults.tiers import sized
from tests.integration.watching import all_ended
from tests.waiting import eventually

pytestmark = pytest.mark.integration

DATABASE = "django_celery_beat.schedulers:DatabaseScheduler"


def fired():
    return TaskLog.objects.exclude(schedule="")


def test_each_time_is_fired_once_whatever_becomes_of_the_beats(
    start_workers, start_beat, record
):
    # Their own clocks sleep: what comes, comes from the beats.
    start_workers(*[{"conf": {"DISPATCH_INTERVAL": 600.0}} for _ in range(2)])
    every = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.create(
        name="by hand",
        task="taskcontrol.enqueue",
        interval=every,
        kwargs=json.dumps({"method": "tests.tasks.recorded"}),
    )
    first, second = (start_beat(scheduler=DATABASE) for _ in range(2))
    for beat in (first, second):
        eventually(
            lambda beat=beat: "Sending due task by hand" in beat.process.log.read_text(),
            30,
            why=beat.process.tail,
        )
    kills, naps = 0, 0
    for _ in range(sized(2, 20)):
        seen = fired().count()
        second.process.send(signal.SIGSTOP)
        first.kill()
        kills, naps = kills + 1, naps + 1
        first.start()
        eventually(lambda seen=seen: fired().count() >= seen + 2, 30)
        # It wakes with a plan that is seconds old, and sends all that it thinks is due.
        second.process.send(signal.SIGCONT)
        eventually(lambda seen=seen: fired().count() >= seen + 4, 30)

    schedules.disable("by hand")
    rows = all_ended(fired())
    assert {now.status for now in rows} == {Status.FINISHED}
    assert set(Counter(now.run_at for now in rows).values()) == {1}
    assert set(record.starts().values()) == {1}
    assert Schedule.objects.get(name="by hand").run_count == len(rows)
    assert not TaskEvent.objects.exists()
    figure("two beats", ticks=len(rows), beats_killed=kills, beats_frozen=naps, twice=0)
