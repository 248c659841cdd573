"""P1 and P3 in the middle of everything at once, on SQLite; the laboratory has PostgreSQL."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress

import psutil
import pytest
from redis import RedisError

import taskcontrol
from taskcontrol import broker as courier
from taskcontrol.exceptions import BrokerUnavailable
from taskcontrol.models import TaskAttempt, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.integration.watching import all_ended
from tests.waiting import eventually

# ``tests/faults/test_lost.py`` does more of it, with a database that can be broken too.
pytestmark = [pytest.mark.integration, pytest.mark.only_on("sqlite")]

COUNT = 100
SEED = int(os.environ.get("TASKCONTROL_TEST_SEED", "7"))


class Nemesis:
    """Breaks something at every call."""

    def __init__(self, broker, workers):
        self.broker, self.workers, self.did = broker, workers, Counter()
        self.dice = random.Random(SEED)
        self.ways = [
            *[self.kill_a_child] * 3,
            *[self.copy_messages] * 3,
            *[self.freeze_a_worker] * 2,
            self.kill_a_worker,
            self.empty_the_broker,
            self.restart_the_broker,
        ]

    def strike(self):
        """Do one of them."""
        way = self.dice.choice(self.ways)
        self.did[way.__name__] += 1
        with suppress(
            psutil.Error, ProcessLookupError, IndexError, RedisError, BrokerUnavailable
        ):
            way()

    def kill_a_child(self):
        os.kill(self.dice.choice(self.dice.choice(self.workers).children()).pid, 9)

    def kill_a_worker(self):
        """As a machine that loses its power and starts again."""
        worker = self.dice.choice(self.workers)
        worker.process.kill()
        worker.launch()

    def freeze_a_worker(self):
        worker = self.dice.choice(self.workers)
        worker.process.send(signal.SIGSTOP)
        eventually(lambda: self.dice.random() < 0.02)
        worker.process.send(signal.SIGCONT)

    def empty_the_broker(self):
        self.broker.flush()

    def restart_the_broker(self):
        self.broker.kill()
        self.broker.start()

    def copy_messages(self):
        """Send again what was sent before, late and several times."""
        sent = TaskLog.objects.filter(attempt__gt=0).values_list("pk", "attempt")
        rows = self.dice.sample(list(sent), min(5, len(sent)))
        courier.publish(
            [
                courier.Message(pk, attempt, "default", f"copy-{pk}", 60)
                for pk, last in rows
                for attempt in (last, last - 1, last)
            ]
        )


def test_everything_ends_once_whatever_breaks_p1_p3(start_workers, broker, record):
    nemesis = Nemesis(broker, start_workers({}, {}))
    rows = []
    for number in range(COUNT):
        rows.append(taskcontrol.enqueue(tasks.recorded, seconds=0.15))
        if number % 10 == 9:
            eventually(lambda seen=number - 20: len(record.lines("ended")) >= seen, 60)
            nemesis.strike()

    told = all_ended(rows, 90)

    assert {now.status for now in told} == {Status.FINISHED}, nemesis.did
    assert set(record.starts().values()) == {1}, nemesis.did
    # A body that reached its end is written down once, unless its process died just then.
    runs = Counter(line["task"] for line in record.lines("started"))
    for now in told:
        gone = TaskAttempt.objects.filter(task=now).count()
        assert runs[now.pk] <= 1 + gone, (runs[now.pk], gone)
    assert not TaskLog.objects.filter(occupies=True).exists()
