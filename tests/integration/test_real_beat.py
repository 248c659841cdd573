"""Celery's beat as the second source of every sweep; two of them do no harm."""

from __future__ import annotations

import pytest

import taskcontrol
from taskcontrol.models import DispatcherState, TaskEvent, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task, make_worker, seconds_ago
from tests.integration.watching import all_ended, ended, row
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

OFTEN = {"dispatch": 0.5, "retry-failed": 0.5, "resend": 0.5, "rescue": 0.5, "prune": 1.0}
#: A worker whose own timer does nothing within a test.
ASLEEP = {"DISPATCH_INTERVAL": 600.0}


def seen():
    """Return when beat gave its last sign of life."""
    return DispatcherState.objects.values_list("beat_seen_at", flat=True).get()


def test_every_entry_of_beat_runs_and_is_a_sign_of_life(start_worker, start_beat):
    worker = start_worker()
    before = seen()
    beat = start_beat(conf=OFTEN)

    eventually(lambda: seen() and seen() != before, 20, why=beat.process.tail)
    first = seen()
    eventually(lambda: seen() > first)

    names = ("dispatch", "retry_failed", "resend", "rescue", "prune")
    for name in names:
        eventually(
            lambda name=name: f"Task taskcontrol.{name}[" in worker.process.log.read_text(),
            20,
            why=worker.process.tail,
        )
    assert "raised" not in worker.process.log.read_text()


def test_beat_alone_retries_rescues_and_prunes(start_worker, start_beat, record):
    start_worker(conf=ASLEEP)
    gone = make_worker(last_seen_at=seconds_ago(600))
    lost = make_task(Status.STARTED, method="tests.tasks.recorded", worker=gone)
    due = make_task(
        Status.FAILED,
        method="tests.tasks.recorded",
        retry_at=seconds_ago(5),
        max_retries=1,
    )
    old = make_task(Status.FINISHED, ended_at=seconds_ago(40 * 86400))

    start_beat(conf=OFTEN)

    all_ended([lost, due], 30)
    assert (row(lost).status, row(lost).lost_count) == (Status.FINISHED, 1)
    assert (row(due).status, row(due).retry_count) == (Status.FINISHED, 1)
    eventually(lambda: not TaskLog.objects.filter(pk=old.pk).exists(), 20)


def test_two_beats_do_no_harm(start_workers, start_beat, record):
    start_workers({}, {})
    for _ in range(2):
        start_beat(conf=dict.fromkeys(OFTEN, 0.2))
    eventually(seen, 20)

    rows = [taskcontrol.enqueue(tasks.fail_recorded, max_retries=n % 3) for n in range(15)]
    rows += [taskcontrol.enqueue(tasks.recorded) for _ in range(45)]

    for number, now in enumerate(all_ended(rows)):
        retries = number % 3 if number < 15 else 0
        assert (now.retry_count, now.attempt, now.lost_count) == (retries, retries + 1, 0)
    assert set(record.starts().values()) == {1}
    assert len(record.lines("started")) == 45 + 15 + 15
    assert not TaskEvent.objects.exists()


def test_messages_of_beat_do_not_pile_up_while_no_worker_takes_them(
    start_worker, start_beat, broker
):
    beat = start_beat(conf=dict.fromkeys(OFTEN, 0.2))
    eventually(lambda: broker.messages("default") > 15, 20, why=beat.process.tail)
    with broker.client() as client:
        texts = client.lrange("default", 0, -1)

    assert all(b'"expires": "2' in text for text in texts), texts[0]


def test_a_site_without_beat_works_and_says_so(worker):
    DispatcherState.objects.update(beat_seen_at=None)

    assert ended(taskcontrol.enqueue(tasks.add, left=1)).result == 1

    from taskcontrol.beating import beat_is_silent

    assert beat_is_silent()
    always(lambda: seen() is None, 1)
