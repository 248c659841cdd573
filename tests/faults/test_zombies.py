"""P3: what wakes after others have done its work changes nothing, is recorded, and soon goes."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

import taskcontrol
from taskcontrol.models import Announcement, Incident, TaskAttempt, TaskLog
from taskcontrol.status import Status
from tests.faults import racing
from tests.faults.figures import figure
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended, is_alive, story
from tests.lab import LAB
from tests.servers.worker import Worker
from tests.waiting import eventually

pytestmark = pytest.mark.integration

HEARTBEAT, LEASE, GRACE = 0.5, 3.0, 1.0
CONF = {
    "HEARTBEAT_INTERVAL": HEARTBEAT,
    "WORKER_LOST_AFTER": LEASE,
    "CANCEL_GRACE": GRACE,
    "RESEND_AFTER": 2.0,
}
SLOTS = sized(2, 8)
ROUNDS = sized(1, 13)
#: Processes that sleep for longer than the lease, at the least: the figure to reach.
STOPPED = sized(6, 200)
#: Of three workers the main process sleeps, its children do, or both.
KINDS = ("both", "main", "children")
#: What a silent worker loses at most: the lease, a look for it, a pass, a start.
ELSEWHERE = LEASE + 10
#: Seconds for what is not the worker's doing.
SLACK = 2.0


def test_zombies_write_nothing_and_are_recorded_p3(start_workers, record):
    dice = random.Random(SEED)
    victims = dict(
        zip(
            KINDS,
            start_workers(*[{"queues": ["long"], "concurrency": SLOTS, "conf": CONF}] * 3),
            strict=True,
        )
    )
    rounds = [one_round(number, dice, victims, record) for number in range(ROUNDS)]

    gone = [seconds for one in rounds for seconds in one["gone"]]
    stopped = sum(one["stopped"] for one in rounds)
    assert stopped >= STOPPED
    figure(
        "zombies",
        tasks=sum(one["tasks"] for one in rounds),
        stopped=stopped,
        zombies=len(gone),
        stale_writes=0,
        recorded=len(gone),
        gone_p50=round(statistics.median(gone), 2),
        gone_max=round(max(gone), 2),
        begun_beside_a_sleeper=0,
    )


def one_round(number, dice, victims, record):
    """Stop three workers for longer than their lease, wake them, and look what they did."""
    record.clear()
    gate = LAB / f"gate-{number}"
    rows = enqueue(gate)
    whole = partial(tails, victims)
    lines = eventually(partial(begun, record, rows, 1), 30, why=whole)
    pids = {line["task"]: line["pid"] for line in lines}
    homes = where(rows, victims)
    zombies = [pk for pk in rows if homes[pk] != "children"]
    sleepers = [pk for pk in rows if homes[pk] == "children"]
    frozen = {kind: stop(kind, worker) for kind, worker in victims.items()}
    frozen_at = time.monotonic()

    with Worker(["long"], concurrency=3 * SLOTS + 1, conf=CONF):
        eventually(partial(begun, record, zombies, 2), ELSEWHERE, why=whole)
        eventually(lambda: time.monotonic() - frozen_at > LEASE)
        stopped = sum(map(sleeping, frozen.values()))
        # Nobody gives up on a child while its main process vouches for it.
        assert not record.lines(attempt=2) or not began_again(record, sleepers)
        end_sleepers(sleepers, pids, record, whole)
        eventually(partial(told, rows, record), 20, why=partial(stories, rows))
        before = snapshot(zombies, record)

        gate.touch()
        woken_at = wake(frozen, zombies, ends_first=not number or dice.random() < 0.5)
        gone = gone_after(woken_at, {pk: pids[pk] for pk in zombies})
        eventually(lambda: recorded(zombies) == set(zombies), why=partial(stories, zombies))
        assert snapshot(zombies, record) == before

        Path(f"{gate}-2").touch()
        all_ended(rows.values(), 30)
        eventually(lambda: len(calls(record)) == len(rows), why=partial(stories, rows))
        # Who dies while it tells lets it be told again, in the next round.
        eventually(lambda: not Announcement.objects.exists())
    assert {
        (row.status, row.attempt, row.result, row.retry_count) for row in read(zombies)
    } == {(Status.FINISHED, 2, "well", 0)}
    assert set(calls(record).values()) == {1}
    assert record.starts() == {(pk, attempt): 1 for pk in rows for attempt in (1, 2)}
    numbers = taskcontrol.batches.progress(read(rows)[0].batch_id)
    assert numbers == {"done": len(rows), "failed": 0, "canceled": 0, "total": len(rows)}
    eventually(lambda: all(worker.row() for worker in victims.values()), 20, why=whole)
    return {"stopped": stopped, "tasks": len(rows), "gone": gone}


def enqueue(gate):
    """Return rows by key, enough for every slot, each of which is to write in some way."""
    ways = list(racing.WAYS)
    batch = taskcontrol.create_batch()
    members = [
        {
            "method": racing.late,
            "queue": "long",
            "max_retries": 3,
            "retry_delay": 0,
            "on_success": racing.called,
            "arguments": {
                "gate": str(gate),
                "way": ways[number % len(ways)],
                "stays": number % 2 == 0,
            },
        }
        for number in range(len(KINDS) * SLOTS)
    ]
    taskcontrol.bulk_enqueue(members, batch_id=batch)
    return {row.pk: row for row in TaskLog.objects.filter(batch_id=batch)}


def begun(record, rows, attempt):
    """Return the lines of the starts of this attempt when each of ``rows`` has begun it."""
    lines = [one for one in record.lines("started", attempt=attempt) if one["task"] in rows]
    return lines if len(lines) == len(rows) else None


def began_again(record, rows):
    """Return whether one of ``rows`` has begun a second attempt."""
    return any(one["task"] in rows for one in record.lines("started", attempt=2))


def where(rows, victims):
    """Return which worker runs each of ``rows``."""
    kinds = {worker.row().pk: kind for kind, worker in victims.items()}
    return {row.pk: kinds[row.worker_id] for row in read(rows)}


def read(rows):
    """Return the rows as they are now."""
    return list(TaskLog.objects.filter(pk__in=rows).order_by("pk"))


def stop(kind, worker):
    """Stop what ``kind`` says; return (main process or None, children)."""
    main, children = kind != "children", kind != "main"
    frozen = worker.freeze(main=main, children=children)
    return (frozen[0], frozen[1:]) if main else (None, frozen)


def sleeping(frozen):
    """Return how many processes of a worker are still stopped."""
    main, children = frozen
    processes = [*children, *([main] if main is not None else [])]
    return sum(one.status() == psutil.STATUS_STOPPED for one in processes)


def end_sleepers(rows, pids, record, why):
    """Cancel bodies that sleep and run them again: first their processes must be gone."""
    for pk in rows:
        assert taskcontrol.cancel(pk) is True
        taskcontrol.retry(pk)
    for line in eventually(partial(begun, record, rows, 2), 20, why=why):
        assert not is_alive(pids[line["task"]]), "it began beside its stopped body"


def told(rows, record):
    """Return whether all is told of the second attempts that have not to wait."""
    quick = [row for row in read(rows) if not row.arguments["stays"]]
    return all(row.status == Status.FINISHED and row.pk in calls(record) for row in quick)


def calls(record):
    """Return how often the callback of each task was called."""
    return Counter(line["job"] for line in record.lines("called"))


def snapshot(rows, record):
    """Return all that a stale attempt could change."""
    values = list(TaskLog.objects.filter(pk__in=rows).order_by("pk").values())
    old = list(TaskAttempt.objects.filter(task__in=rows).order_by("pk").values())
    numbers = taskcontrol.batches.progress(values[0]["batch_id"])
    return values, old, numbers, {pk: n for pk, n in calls(record).items() if pk in rows}


def wake(frozen, zombies, *, ends_first):
    """Wake the children and the main processes; return when the latter woke.

    ``ends_first``: the main processes sleep on until the bodies have tried to write.
    """
    for _, children in frozen.values():
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.resume()
    if ends_first:
        writers = {row.pk for row in read(zombies) if row.arguments["way"] != "stay"}
        eventually(lambda: recorded(zombies) >= writers, why=partial(stories, zombies))
    for main, _ in frozen.values():
        if main is not None:
            main.resume()
    return time.monotonic()


def recorded(rows):
    """Return those of ``rows`` whose first attempt was recorded as a zombie."""
    found = Incident.objects.filter(
        kind=Incident.Kind.ZOMBIE, attempt=1, task_id__in=rows, resolved_at__isnull=False
    )
    return set(found.values_list("task_id", flat=True))


def gone_after(since, pids):
    """Return the seconds after which each process was gone."""
    took = {}

    def look():
        for pk, pid in pids.items():
            if pk not in took and not is_alive(pid):
                took[pk] = time.monotonic() - since
        return len(took) == len(pids)

    eventually(look, 10, why=lambda: f"gone: {took} of {pids}")
    assert max(took.values()) <= 2 * HEARTBEAT + GRACE + SLACK, took
    return list(took.values())


def stories(rows):
    """Return what the database says of all of them."""
    return "\n".join(map(story, rows))


def tails(victims):
    """Return the ends of the logs."""
    return "\n".join(f"{kind}:\n{one.process.tail(15)}" for kind, one in victims.items())
