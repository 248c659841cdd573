"""Messages that are spoilt, forged or strange, and workers that know nothing of ours."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import pytest

import taskcontrol
from taskcontrol import broker as courier
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.faults.figures import figure
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended, ended
from tests.lab import LAB
from tests.servers.environment import site_environment
from tests.servers.process import Process
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def envelope(**changed: Any) -> bytes:
    """Return a message as it lies on the list in Redis, with some parts of it spoilt."""
    whole = {
        "body": "W1sxLCAxXSwge30sIHt9XQ==",
        "headers": {"task": "taskcontrol.run", "id": "spoilt", "lang": "py"},
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {
            "delivery_tag": "spoilt",
            "delivery_info": {"exchange": "", "routing_key": "default"},
            "body_encoding": "base64",
        },
    }
    return json.dumps({**whole, **changed}).encode()


SPOILT = {
    "no JSON": b"\x80\x04}q\x00.",
    "no message": b"[1, 2, 3]",
    "an empty one": b"{}",
    "a body that is no text": envelope(body={"a": 1}),
    "headers that are no table": envelope(headers=[1, 2]),
    "half of one": envelope()[:100],
    "another type": envelope(**{"content-type": "application/x-python-serialize"}),
}


def test_a_spoilt_message_keeps_no_worker_from_the_next(worker, broker, record):
    pid = worker.process.pid
    for shape, text in SPOILT.items():
        with broker.client() as client:
            client.lpush("default", text)

        now = ended(taskcontrol.enqueue(tasks.recorded), 10)

        assert now.status == Status.FINISHED, shape
        assert (worker.process.running, worker.process.pid) == (True, pid), shape
    with broker.client() as client:
        eventually(lambda: not client.hlen("unacked"))
    assert set(record.starts().values()) == {1}
    figure("spoilt messages", shapes=len(SPOILT), workers_lost=0)


def test_forged_messages_start_no_body(worker, broker, record):
    dice = random.Random(SEED)
    resting = [taskcontrol.enqueue(tasks.recorded, paused=True) for _ in range(8)]
    for row in resting[::2]:
        taskcontrol.cancel(row)
    before = rows()
    keys = [row.pk for row in resting] + [-1, 0, 10**12, 2**63, 2**70]

    count = sized(200, 1000, 10_000)
    forged = [
        courier.Message(
            dice.choice(keys),
            dice.choice([-1, 0, 1, 2, 2**40]),
            "default",
            f"forged-{n}",
            60,
        )
        for n in range(count)
    ]
    for start in range(0, count, 100):
        courier.publish(forged[start : start + 100])

    eventually(lambda: not broker.messages("default"), 60)
    ended(taskcontrol.enqueue(tasks.nothing))
    assert rows() == before
    assert record.lines() == []
    figure("forged messages", messages=count, bodies=0)


def rows():
    """Return what a forged message might change of the tasks that rest."""
    found = TaskLog.objects.filter(method="tests.tasks.recorded").order_by("pk")
    return list(found.values_list("pk", "status", "attempt", "rev"))


BARE = """
import os
from celery import Celery
app = Celery("bare", broker=os.environ["BROKER_URL"])
app.conf.update(task_default_queue="default", worker_prefetch_multiplier=1)
"""


@pytest.fixture
def stranger(tmp_path):
    """A worker of another project on our queue: it drops every message that it does not know."""
    (tmp_path / "bare.py").write_text(BARE)
    command = [
        *(sys.executable, "-m", "celery", "-A", "bare", "worker", "-Q", "default"),
        *(
            "-c",
            "1",
            "-l",
            "INFO",
            "-n",
            "bare@lab",
            "--without-gossip",
            "--without-mingle",
        ),
    ]
    # Without settings there is no Django, and nothing of ours.
    env = {**site_environment(), "PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": ""}
    process = Process(command, log=LAB / "bare.log", env=env)
    process.start()
    yield process
    process.kill()


def test_what_a_strange_worker_takes_and_drops_runs_all_the_same(
    start_worker, broker, record, stranger
):
    quick = {"RESEND_AFTER": 0.5, "HEARTBEAT_INTERVAL": 0.5}
    start_worker(concurrency=6, conf={**quick, "DECK": False})  # else it needs no message
    eventually(lambda: "bare@lab ready" in stranger.log.read_text(), 30)

    rows = [taskcontrol.enqueue(tasks.recorded) for _ in range(sized(6, 200))]

    assert {now.status for now in all_ended(rows, 120)} == {Status.FINISHED}
    assert set(record.starts().values()) == {1}
    assert len(record.lines("started")) == len(rows)
    dropped = stranger.log.read_text().count("Received unregistered task")
    assert dropped, stranger.tail(60)
    figure("a worker without taskcontrol", tasks=len(rows), dropped=dropped, lost=0)


def test_a_worker_with_older_code_tells_what_it_does_not_know(worker, record):
    rows = [
        taskcontrol.enqueue(tasks.recorded, paused=True, max_retries=1) for _ in range(4)
    ]
    TaskLog.objects.update(method="tests.tasks.not_deployed_yet", retry_delay=0)
    taskcontrol.resume(rows[0])
    for row in rows[1:]:
        taskcontrol.resume(row)

    told = all_ended(rows, 20)

    assert {now.ended_reason for now in told} == {"unknown method"}
    assert {now.retry_count for now in told} == {1}
    # The new code is deployed: what failed is run again.
    TaskLog.objects.update(method="tests.tasks.recorded")
    for row in rows:
        taskcontrol.retry(row)
    assert {now.status for now in all_ended(rows)} == {Status.FINISHED}
    figure("version skew", tasks=len(rows), lost=0)
