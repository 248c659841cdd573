"""P6: a cancel has one answer, whatever it meets, and a running body is gone soon after it."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter

import psutil
import pytest

import taskcontrol
from taskcontrol import lifecycle
from taskcontrol.dispatch import dispatch_pending
from taskcontrol.models import TaskAttempt, TaskEvent, TaskLog
from taskcontrol.retries import retry_failed_tasks
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.factories import make_task, seconds_ago
from tests.faults import racing
from tests.faults.figures import figure
from tests.faults.tiers import SEED, sized
from tests.integration.watching import all_ended, is_alive, story
from tests.waiting import eventually, race_over

pytestmark = pytest.mark.integration

RACES = sized(300, 10_000)
#: Races of each other kind.
OTHERS = sized(100, 2_000)


def answers_of(rows, other):
    """Let a cancel race with ``other`` for each row; return how often each came out.

    That is (whether it was canceled, what the other returned, the status in the end). A
    cancel reads before it writes and would always be second, so the other begins a little
    later: longer after a race that it won, shorter after one that it lost.
    """
    dice = random.Random(SEED)
    pause = [0.002]

    def begin_later(row):
        time.sleep(pause[0] * dice.uniform(0.5, 1.5))
        won = other(row)
        pause[0] *= 1.2 if won else 1 / 1.2
        return won

    told = race_over(rows, taskcontrol.cancel, begin_later, timeout=900)
    errors = [one for both in told for one in both if isinstance(one, Exception)]
    assert not errors, errors[:3]
    status = dict(TaskLog.objects.values_list("pk", "status"))
    seen = Counter((*both, status[row.pk]) for row, both in zip(rows, told, strict=True))
    assert len(seen) > 1, f"no race at all: {seen}"
    return seen


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_an_end_have_one_answer_p6():
    dice = random.Random(SEED)
    rows = [make_task(Status.STARTED, max_retries=1) for _ in range(RACES)]
    fails = {row.pk for row in rows if dice.random() < 0.4}

    def end(row):
        if row.pk in fails:
            return lifecycle.fail(row.pk, 1, error="it failed", retry_in=60)
        return lifecycle.finish(row.pk, 1, result="done")

    seen = answers_of(rows, end)

    # Who fails and is to be retried can still be canceled: both won, one after the other.
    first = {(True, False, "Canceled"), (False, True, "Finished"), (True, True, "Canceled")}
    assert seen.keys() <= first
    assert not TaskLog.objects.filter(pk__in=fails, status=Status.FINISHED).exists()
    finished = TaskLog.objects.filter(status=Status.FINISHED)
    assert finished.count() == seen[False, True, "Finished"]
    # What was finished has its result, and what was canceled before its end has none.
    assert not finished.exclude(result="done").exists()
    assert not TaskLog.objects.filter(status=Status.CANCELED).exclude(result=None).exists()
    canceled = RACES - finished.count()
    assert TaskEvent.objects.filter(kind=TaskEvent.Kind.CANCELED).count() == canceled
    figure(
        "cancel against finish",
        races=RACES,
        both=0,
        neither=0,
        canceled=canceled,
        ended_first=finished.count() + seen[True, True, "Canceled"],
    )


def tell(what, seen):
    """Keep the figure of a race in which the cancel wins in both orders."""
    first = sum(number for (_, other, _), number in seen.items() if other)
    numbers = {"races": OTHERS, "both": 0, "neither": 0, f"{what}_first": first}
    figure(f"cancel against {what}", **numbers)


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_a_claim_have_one_answer_p6():
    rows = [make_task(Status.QUEUED) for _ in range(OTHERS)]

    def claim(row):
        return lifecycle.claim(row.pk, 1, worker_id=None, pid=1) is not None

    seen = answers_of(rows, claim)

    # A cancel wins in both orders; what was begun keeps its place until its body is gone.
    assert seen.keys() <= {(True, False, "Canceled"), (True, True, "Canceled")}
    begun = TaskLog.objects.exclude(started_at=None)
    assert begun.count() == begun.filter(occupies=True).count()
    assert begun.count() == seen[True, True, "Canceled"]
    tell("claim", seen)


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_a_rescue_have_one_answer_p6():
    rows = [make_task(Status.STARTED) for _ in range(OTHERS)]

    seen = answers_of(rows, lambda row: lifecycle.rescue(row.pk, 1, detail="lost"))

    assert seen.keys() <= {(True, False, "Canceled"), (True, True, "Canceled")}
    assert TaskAttempt.objects.count() == seen[True, True, "Canceled"]
    tell("rescue", seen)


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_a_retry_that_is_due_have_one_answer_p6():
    rows = [
        make_task(Status.FAILED, max_retries=3, retry_at=seconds_ago(1))
        for _ in range(OTHERS)
    ]

    seen = answers_of(rows, lambda row: lifecycle.retry_due([row.pk]))

    assert seen.keys() <= {(True, 0, "Canceled"), (True, 1, "Canceled")}
    assert retry_failed_tasks() == 0
    retried = TaskLog.objects.filter(retry_count=1).count()
    assert retried == TaskAttempt.objects.count() == seen[True, 1, "Canceled"]
    tell("retry", seen)


@pytest.mark.django_db(transaction=True)
def test_a_cancel_and_a_dispatch_have_one_answer_p6():
    site = dispatcher_state().site
    rows = [make_task() for _ in range(OTHERS)]

    seen = answers_of(rows, lambda row: len(lifecycle.promote([row.pk], site=site)))

    assert seen.keys() <= {(True, 0, "Canceled"), (True, 1, "Canceled")}
    assert dispatch_pending() == 0
    sent = TaskLog.objects.filter(attempt=1)
    assert sent.count() == seen[True, 1, "Canceled"]
    assert not TaskLog.objects.filter(occupies=True).exists()
    tell("dispatch", seen)


# Running bodies

#: Times of the workers here, in seconds.
GRACE, WATCH = 1.5, 1.0
CONF = {"CANCEL_GRACE": GRACE}
#: What is promised: the keeper looks once a second, to ask and again to force.
ASKED, FORCED = WATCH, WATCH + GRACE + WATCH
#: What may come on top: many wake and are killed at one moment, on a busy machine.
SLACK = 1.5
ROUNDS = sized(2, 30)
SLOTS = 9
#: What stops when it is asked keeps its process; the others lose it.
LISTENS = [racing.cooperate, racing.sleep, racing.sleep_in_c, racing.backtrack]
STUBBORN = [
    racing.swallow,
    racing.compute,
    racing.blocked_in_c,
    racing.with_children,
]


def test_running_bodies_are_gone_within_the_grace_p6(start_worker, record):
    dice = random.Random(SEED)
    worker = start_worker(concurrency=SLOTS, conf=CONF)
    asked, forced = [], []
    for _ in range(ROUNDS):
        record.clear()
        told = one_round(dice, worker, record)
        asked += told["asked"]
        forced += told["forced"]

    everything = asked + forced
    assert max(asked) <= ASKED + SLACK, sorted(asked)[-5:]
    assert max(forced) <= FORCED + SLACK, sorted(forced)[-5:]
    figure(
        "cancel of running bodies",
        bodies=len(everything),
        grace=GRACE,
        bound_asked=ASKED + SLACK,
        bound_forced=FORCED + SLACK,
        asked_p50=percentile(asked, 50),
        asked_p99=percentile(asked, 99),
        forced_p50=percentile(forced, 50),
        forced_p99=percentile(forced, 99),
        longest=round(max(everything), 2),
        innocents_hit=0,
    )


def one_round(dice, worker, record):
    """Cancel one body of each kind at one moment; return the seconds until each was gone."""
    bodies = [*LISTENS, *STUBBORN]
    dice.shuffle(bodies)
    bystander = taskcontrol.enqueue(racing.sleep)
    rows = {taskcontrol.enqueue(body).pk: body for body in bodies}
    lines = eventually(
        lambda: started(record, len(bodies) + 1), 30, why=worker.process.tail
    )
    pids = {line["task"]: line["pid"] for line in lines}
    below = [pid for line in record.lines("children") for pid in line["pids"]]
    grandchildren = [psutil.Process(pid) for pid in below]
    grandchildren += [one for top in grandchildren for one in top.children()]

    took = gone_after_cancel(
        {pk: pids[pk] for pk in rows}, [pk for pk, body in rows.items() if body in STUBBORN]
    )
    for pk, body in rows.items():
        assert is_alive(pids[pk]) is (body in LISTENS), body
        assert steps(pk)[0] == "canceled"
        assert ("forced" in steps(pk)) is (body in STUBBORN), (body, steps(pk))
    eventually(
        lambda: (
            not any(one.is_running() and one.status() != "zombie" for one in grandchildren)
        )
    )
    assert is_alive(pids[bystander.pk]), "the kill reached another body"
    assert TaskLog.objects.get(pk=bystander.pk).status == Status.STARTED
    used_again(bystander)
    return {
        "asked": [took[pk] for pk, body in rows.items() if body in LISTENS],
        "forced": [took[pk] for pk, body in rows.items() if body in STUBBORN],
    }


def gone_after_cancel(pids, killed):
    """Cancel these tasks at once; return the seconds after which each body was gone.

    The process of those that are ``killed`` must be gone too.
    """
    asked_at, took = {}, {}
    for pk in pids:
        assert taskcontrol.cancel(pk) is True
        asked_at[pk] = time.monotonic()

    def look():
        held = TaskLog.objects.filter(pk__in=pids, occupies=True)
        there = set(held.values_list("pk", flat=True))
        there |= {pk for pk in killed if is_alive(pids[pk])}
        for pk in pids.keys() - there - took.keys():
            took[pk] = time.monotonic() - asked_at[pk]
        return len(took) == len(pids)

    eventually(look, 20, every=0.01, why=lambda: told(pids, took))
    return took


def told(pids, took):
    """Return what is known of the bodies that are still there."""
    left = pids.keys() - took.keys()
    return "\n".join(f"alive: {is_alive(pids[pk])} {story(pk)}" for pk in left)


def used_again(bystander):
    """Every slot takes tasks again, the one of the bystander at last."""
    for _ in range(2):
        all_ended([taskcontrol.enqueue(tasks.nothing) for _ in range(SLOTS)], 30)
    taskcontrol.cancel(bystander)
    all_ended([bystander], 30)


def started(record, number):
    """Return the lines of so many starts, or nothing yet."""
    lines = record.lines("started")
    return lines if len(lines) == number else None


def steps(pk):
    """Return the kinds of events of a task."""
    return list(
        TaskEvent.objects.filter(task=pk).order_by("pk").values_list("kind", flat=True)
    )


def percentile(values, which):
    """Return one percentile in seconds."""
    return round(statistics.quantiles(values, n=100, method="inclusive")[which - 1], 2)
