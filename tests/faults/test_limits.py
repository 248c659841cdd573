"""P4: no limit is passed by running bodies, though dispatchers die and everything is disturbed."""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import suppress

import pytest

import taskcontrol
from taskcontrol import crashpoints
from taskcontrol.exceptions import InvalidTransition
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog, TaskType
from taskcontrol.status import Status
from tests.factories import make_type
from tests.faults import racing
from tests.faults.figures import figure
from tests.faults.herd import Herd
from tests.faults.ledger import ZOMBIE
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended, story
from tests.lab import LAB
from tests.servers.process import kill_child
from tests.waiting import always, eventually

pytestmark = pytest.mark.integration

COUNT = sized(300, 5_000, 20_000)
KILLS = sized(8, 40, 100)
DISPATCHERS = 8
#: Two of the limits are changed while tasks run.
LIMITS = {"limited_1": 1, "limited_2": 2, "limited_5": 5, "limited_17": 17}
CHANGED = {"limited_2": (1, 2, 4), "limited_5": (3, 5, 8)}
#: Of so many tasks each type gets so many, such that none keeps the others waiting.
SHARES = {"limited_1": 2, "limited_2": 3, "limited_5": 6, "limited_17": 19}
#: How bodies end, and how many of a thousand do so.
ENDS = {"fail": 60, "die": 20, "over_time": 25, "swallow": 20, "in_c": 20}
WORKERS, SLOTS = 2, 14
#: Of each type so many more than its limit are there when all its places are to be taken.
BEYOND = 3
AT_THE_GATE = sum(LIMITS.values()) + BEYOND * len(LIMITS)
#: What has to be done to running bodies at least once, or nothing was shown.
DONE = ("running canceled", "bodies killed", "retried", "limits changed")
CONF = {
    "CANCEL_GRACE": 0.7,
    "RESEND_AFTER": 1.5,
    "LOST_LIMIT": 100,
    # No worker is frozen here: a busy machine shall not let one be given up on, whose
    # bodies count no more.
    "WORKER_LOST_AFTER": 120.0,
}
#: Seconds that a pass may take from reading a limit to sending under it.
PASS = 2.0
POINTS = [name for name in crashpoints.POINTS if name.startswith("dispatch.")]


def test_no_limit_is_passed_while_dispatchers_die_p4(start_workers, record):
    dice = random.Random(SEED)
    for name, limit in LIMITS.items():
        make_type(f"tests.faults.racing.{name}", concurrency_limit=limit)
    start_workers(*[{"concurrency": SLOTS, "conf": CONF}] * WORKERS)
    storm = Storm(dice)

    with Herd("dispatch", DISPATCHERS, SEED, POINTS) as storm.herd:
        fill_every_place(record)
        enqueue(dice)
        eventually(storm.over, sized(60, 900, 5400), every=0.1, why=lambda: str(storm.did))
        crashes = Counter(storm.herd.crashes())
    rows = all_ended(TaskLog.objects.only("pk"), 60)

    starts = record.lines("started")
    ends = {(one["task"], one["attempt"]): one["at"] for one in record.lines("ended")}
    assert set(record.starts().values()) == {1}
    together = [(one, together_with(one, ends)) for one in starts]
    above = [
        (one, len(others))
        for one, others in together
        if len(others) > storm.allowed(one, others, starts)
    ]
    given_up = TaskAttempt.objects.filter(ended_reason__startswith=ZOMBIE)
    assert not given_up.exists(), "a worker was given up on, which nobody had stopped"
    assert not above, f"{len(above)} above their limit: {tell(above)}\n{storm.did}"
    assert not any(twice(others) for _, others in together)
    peaks = {name: peak(name, together) for name in LIMITS}
    full = Counter(
        one["type"] for one, others in together if storm.is_full(one, others, starts)
    )
    # Each limit has bound: so many ran, not one more, although more waited.
    assert all(peaks[name] >= limit for name, limit in LIMITS.items()), peaks
    assert full.keys() == LIMITS.keys(), full
    assert storm.did["dispatchers killed"] >= KILLS
    assert all(storm.did[what] for what in DONE), storm.did
    timed_out = sum(
        model.objects.filter(ended_reason="timed out").count()
        for model in (TaskLog, TaskAttempt)
    )
    forced = TaskEvent.objects.filter(kind=TaskEvent.Kind.FORCED).count()
    assert timed_out, "no body was timed out"
    assert forced, "no body was killed for its cancel or its time"
    figure(
        "limits",
        tasks=len(rows),
        bodies=len(starts),
        dispatchers=DISPATCHERS + WORKERS,
        **{name.replace(" ", "_"): number for name, number in sorted(storm.did.items())},
        crashes_at_points=sum(crashes.values()),
        timed_out=timed_out,
        forced=forced,
        peaks=peaks,
        begun_at_the_limit=dict(full),
        above_the_limit=0,
        attempts_together=0,
    )


def tell(above):
    """Return what is known of the first bodies that were too many, and who was there."""
    return "\n".join(
        f"{line}\n" + "\n".join(story(task) for task, _ in line["company"])
        for line, _ in above[:3]
    )


def fill_every_place(record):
    """Let each type fill its limit while more of it wait: that many begin, and no more."""
    gate = LAB / "gate of the limits"
    gate.unlink(missing_ok=True)
    taskcontrol.bulk_enqueue(
        {
            "method": getattr(racing, name),
            "arguments": {"kind": f"gate {gate}", "seconds": 0},
        }
        for name, limit in LIMITS.items()
        for _ in range(limit + BEYOND)
    )

    def running():
        return len(record.lines("started"))

    try:
        eventually(
            lambda: running() == sum(LIMITS.values()), 30, why=lambda: f"{running()} run"
        )
        always(lambda: running() == sum(LIMITS.values()), 1)
    finally:
        gate.touch()


def enqueue(dice):
    """Enqueue all tasks in a few calls, each to end in a way that the dice say."""
    names = dice.choices(list(SHARES), list(SHARES.values()), k=COUNT)
    kinds = dice.choices(
        ["ok", *ENDS], [1000 - sum(ENDS.values()), *ENDS.values()], k=COUNT
    )
    for first in range(0, COUNT, 1000):
        taskcontrol.bulk_enqueue(
            {
                "method": getattr(racing, name),
                "timeout": 1,
                "max_retries": 1,
                "arguments": {"kind": kind, "seconds": dice.uniform(0.02, 0.15)},
            }
            for name, kind in list(zip(names, kinds, strict=True))[first : first + 1000]
        )


class Storm:
    """What is done to tasks, limits and dispatchers until everything has ended."""

    def __init__(self, dice):
        self.dice, self.did = dice, Counter()
        self.herd = None
        #: The limits of each type: from when to when, and how much.
        self.limits = {name: [[0.0, float("inf"), n]] for name, n in LIMITS.items()}
        self.retried = set()

    def over(self):
        """Disturb; return whether all tasks have ended and every kill was made."""
        done = self.ended()
        due = (KILLS + 1) * done / COUNT
        if self.did["dispatchers killed"] < min(due, KILLS):
            self.herd.kill_one(self.dice)
            self.did["dispatchers killed"] += 1
        for chance, act in (
            (0.30, self.cancel),
            (0.15, self.kill_a_body),
            (0.15, self.retry),
            (0.10, self.change_a_limit),
        ):
            if self.dice.random() < chance:
                act()
        return self.ended() == COUNT and due >= KILLS

    def ended(self):
        """Return how many of the storm's tasks have ended."""
        return TaskLog.objects.ended().count() - AT_THE_GATE

    def cancel(self):
        """Cancel one that runs, or one that waits."""
        status = self.dice.choice((Status.STARTED, Status.STARTED, Status.PENDING))
        row = self._one(TaskLog.objects.filter(status=status))
        if row is not None and taskcontrol.cancel(row):
            self.did["running canceled" if status == Status.STARTED else "canceled"] += 1

    def kill_a_body(self):
        """Kill the process of one that runs."""
        row = self._one(TaskLog.objects.filter(status=Status.STARTED).exclude(pid=None))
        if row is not None and kill_child(row.pid):
            self.did["bodies killed"] += 1

    def retry(self):
        """Run one again whose body may still be there."""
        again = (Status.CANCELED, Status.FAILED)
        row = self._one(
            TaskLog.objects.filter(status__in=again, occupies=True)
            or TaskLog.objects.filter(status__in=again)
        )
        if row is None or row.pk in self.retried:
            return
        self.retried.add(row.pk)
        with suppress(InvalidTransition):
            taskcontrol.retry(row)
            self.did["retried"] += 1

    def change_a_limit(self):
        """Raise or lower one; both hold while it is written."""
        name = self.dice.choice(list(CHANGED))
        limit = self.dice.choice(CHANGED[name])
        begun = time.time()  # noqa: TID251 - compared with times of rows
        kind = TaskType.objects.get(method=f"tests.faults.racing.{name}")
        kind.concurrency_limit = limit
        kind.save()
        self.limits[name][-1][1] = time.time()  # noqa: TID251
        self.limits[name].append([begun, float("inf"), limit])
        self.did["limits changed"] += 1

    def _one(self, rows):
        found = list(rows.order_by("pk")[:40])
        return self.dice.choice(found) if found else None

    def allowed(self, line, others, starts):
        """Return the highest limit that held since the first of ``others`` was sent."""
        first = min(sent_at(starts)[other] for other in others) - PASS
        spans = self.limits[line["type"]]
        return max(
            n for begun, ended, n in spans if begun <= line["clock"] and first < ended
        )

    def is_full(self, line, others, starts):
        """Return whether with this one as many ran as may, whichever limit held."""
        return len(others) == self.allowed(line, others, starts)


_sent_at: dict[int, dict[tuple[int, int], float]] = {}


def sent_at(starts):
    """Return when each attempt was sent."""
    if id(starts) not in _sent_at:
        _sent_at.clear()
        _sent_at[id(starts)] = {
            (one["task"], one["attempt"]): one["sent"] for one in starts
        }
    return _sent_at[id(starts)]


def together_with(line, ends):
    """Return (task, attempt) of all bodies of its type that ran when this one began.

    Who looks at one after the other may see one that ended meanwhile: its record says so.
    """
    company = [tuple(one) for one in line["company"]]
    return [one for one in company if ends.get(one, float("inf")) >= line["at"]]


def twice(others):
    """Return whether two attempts of one task are among them."""
    return len({task for task, _ in others}) < len(others)


def peak(name, together):
    """Return how many bodies of a type ran at the same time at most."""
    return max(len(others) for one, others in together if one["type"] == name)
