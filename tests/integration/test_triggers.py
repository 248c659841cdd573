"""What asks for a pass is heard, and a pass that dies half-way loses nothing."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import taskcontrol
from taskcontrol import bell
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_type, make_worker
from tests.integration.watching import all_ended, ended, row
from tests.servers.environment import site_environment
from tests.waiting import eventually

pytestmark = pytest.mark.integration

#: Longer than any test: nothing comes by the timer.
NEVER = {"DISPATCH_INTERVAL": 600}


@pytest.fixture
def untimed(start_worker):
    """A worker that makes a pass when it is asked to, and never else."""
    make_type("tests.tasks.nothing")
    return start_worker(concurrency=2, conf=NEVER)


def begun(task):
    """Wait until the task was dispatched; a ring from here may be lost, and is repeated."""
    eventually(lambda: row(task).status != Status.PENDING or bell.ring())


def test_no_ring_is_lost_while_a_pass_is_made_w4(untimed):
    """Each task is stored by itself, while passes are made for those before it."""
    parent = taskcontrol.enqueue(tasks.enqueue_one_by_one, count=150)
    begun(parent)

    assert ended(parent).status == Status.FINISHED

    children = list(TaskLog.objects.exclude(pk=parent.pk))
    assert len(children) == 150
    assert {child.status for child in all_ended(children)} == {Status.FINISHED}


def test_the_end_of_each_lets_the_next_of_a_full_type_in_w17(untimed):
    make_type("tests.tasks.recorded", concurrency_limit=1)
    line = [taskcontrol.enqueue(tasks.recorded) for _ in range(20)]

    begun(line[0])

    assert {task.status for task in all_ended(line)} == {Status.FINISHED}


#: A pass that is killed when its promotions are committed and no message is sent yet.
KILLED_BEFORE_THE_MESSAGE = """
import os, signal, django
django.setup()
from taskcontrol import broker, dispatch
broker.publish = lambda *_args, **_options: os.kill(os.getpid(), signal.SIGKILL)
dispatch.dispatch_pending()
"""


def test_a_pass_killed_between_commit_and_message_loses_nothing_w5(start_worker, record):
    nobody = make_worker()  # whose slots the pass gives away
    task = taskcontrol.enqueue(tasks.recorded)

    died = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_THE_MESSAGE],
        env=site_environment(),
        timeout=60,
        check=False,
    )

    assert died.returncode == -signal.SIGKILL
    assert row(task).status == Status.QUEUED
    nobody.delete()
    start_worker(concurrency=1)
    now = ended(task)
    assert (now.status, now.attempt, now.sent_count) == (Status.FINISHED, 1, 1)
    assert set(record.starts().values()) == {1}
