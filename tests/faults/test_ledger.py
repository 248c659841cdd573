"""The audit forgives a body that ran on only where its worker could not help being given up on."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.utils import timezone

from taskcontrol.status import Status
from tests.factories import make_task
from tests.faults.ledger import ZOMBIE, Audit
from tests.faults.silences import ENOUGH, LEASE, Silence

#: Seconds ago at which the first attempt was given up on, and the second began beside it.
GIVEN_UP, BEGAN = 20.0, 15.0


def silence(since, until, worker="m0@lab"):
    return worker, since, until


def audit(record, told):
    """Return the audit; silences are told in seconds before now."""
    now = time.monotonic()
    return Audit(
        record, [Silence(worker, now - since, now - until) for worker, since, until in told]
    )


@pytest.fixture
def task(db, record):
    """A task whose second attempt began while the body of the first was still there."""
    task = make_task(Status.STARTED, attempt=2)
    task.attempts.create(
        attempt=1,
        status=Status.STARTED,
        ended_at=timezone.now() - timedelta(seconds=GIVEN_UP),
        ended_reason=f"{ZOMBIE}m0@lab)",
    )
    line = {
        "what": "started",
        "task": task.pk,
        "attempt": 2,
        "kind": "alone",
        "at": time.monotonic() - BEGAN,
        "company": [[task.pk, 1], [task.pk, 2]],
    }
    record.path.write_text(f"{json.dumps(line)}\n")
    return task


@pytest.mark.parametrize(
    "silences",
    [
        [silence(GIVEN_UP + LEASE + 1, GIVEN_UP - 1)],
        [silence(GIVEN_UP + ENOUGH + 0.1, 0)],
        [
            silence(GIVEN_UP + ENOUGH + 1, GIVEN_UP + ENOUGH / 2),
            silence(GIVEN_UP + ENOUGH / 2, GIVEN_UP),
        ],
    ],
    ids=["all the time", "half of it", "twice"],
)
def test_the_body_of_a_silenced_worker_is_a_zombie(task, record, silences):
    found = audit(record, silences)

    assert found.zombies == {(task.pk, 1)}
    assert (found.overlaps, found.peaks["alone"]) == ([], 1)


@pytest.mark.parametrize(
    "silences",
    [
        [],
        [silence(GIVEN_UP + LEASE, GIVEN_UP, worker="m1@lab")],
        [silence(GIVEN_UP + 1, GIVEN_UP)],
        [silence(GIVEN_UP + 3 * LEASE, GIVEN_UP + LEASE)],
        [silence(GIVEN_UP - 0.5, 0)],
    ],
    ids=["nobody", "another", "too short", "long before", "afterwards"],
)
def test_a_healthy_worker_that_is_given_up_on_is_seen(task, record, silences):
    found = audit(record, silences)

    assert found.zombies == set()
    assert [one[:2] for one in found.overlaps] == [(task.pk, 2)]
    assert found.peaks["alone"] == 2
