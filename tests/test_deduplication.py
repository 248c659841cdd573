"""What is enqueued under the key of a task that has not ended is a duplicate."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import batches, lifecycle
from taskcontrol.cancellation import cancel
from taskcontrol.deduplication import wish_of
from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.exceptions import InvalidCall, KeyTaken, NotPermitted
from taskcontrol.models import TaskKey, TaskLog
from taskcontrol.retries import retry, retry_failed_tasks
from taskcontrol.status import TERMINAL, Status
from tests import tasks
from tests.factories import make_task, make_user, seconds_ago
from tests.servers.environment import site_environment
from tests.test_lifecycle import statements
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

HISTORY = (
    "status",
    "queued_at",
    "started_at",
    "ended_at",
    "attempt",
    "celery_task_id",
    "occupies",
    "ready_lane",
)
UNENDED = sorted(set(Status) - TERMINAL)


def once(left=1, key="nightly", **options):
    """Enqueue under a key."""
    return enqueue(tasks.add, left=left, job_id=key, deduplicate=True, **options)


def stand_in(status, task):
    """Let ``task`` stand in ``status``, with what the constraints demand."""
    like = make_task(status)
    values = {name: getattr(like, name) for name in HISTORY}
    like.delete()
    if status is Status.PENDING:
        values["ready_lane"] = task.lane
    TaskLog.objects.filter(pk=task.pk).update(**values)
    task.refresh_from_db()
    return task


def owner(status, **options):
    """Enqueue under the key and let the task stand in ``status``."""
    return stand_in(Status(status), once(**options))


def arguments(task):
    task.refresh_from_db()
    return task.arguments["left"]


# Skip


@pytest.mark.parametrize("status", UNENDED)
def test_a_duplicate_of_a_task_that_has_not_ended_is_dropped(status):
    owner(status)

    assert once() is None
    assert TaskLog.objects.count() == 1


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_the_same_is_accepted_after_the_end(status):
    first = owner(status)

    second = once()

    assert second.pk != first.pk
    assert once() is None


def test_a_failed_task_whose_retry_is_due_has_not_ended():
    first = owner(Status.FAILED, max_retries=1)
    TaskLog.objects.filter(pk=first.pk).update(retry_at=seconds_ago(1))

    assert once() is None
    assert retry_failed_tasks() == 1
    assert once() is None


def test_a_canceled_task_makes_room():
    cancel(once())

    assert once() is not None


def test_a_task_that_expired_before_anybody_swept_it_makes_room_and_never_starts():
    first = once(expires=timedelta(hours=1))
    TaskLog.objects.filter(pk=first.pk).update(expires_at=seconds_ago(60))

    second = once(2)
    assert lifecycle.expire(10) == 1

    assert once() is None
    first.refresh_from_db()
    assert (first.status, second.status) == (Status.CANCELED, Status.PENDING)


def test_other_keys_and_tasks_without_a_key_have_nothing_to_do_with_it():
    first = once()

    assert once(key="Nightly") is not None
    assert once(key="nightly ") is not None
    assert enqueue(tasks.add, left=1, job_id="nightly") is not None
    assert enqueue(tasks.add, left=1, job_name="nightly") is not None
    cancel(first)
    assert once() is not None


def test_a_job_id_without_deduplicate_is_only_a_label():
    first, second = (enqueue(tasks.nothing, job_id="mine") for _ in range(2))

    assert first.job_id == second.job_id == "mine"
    assert not TaskKey.objects.exists()


def test_a_rollback_gives_the_key_back_p2():
    with transaction.atomic():
        once()
        transaction.set_rollback(True)

    assert once() is not None


def test_a_duplicate_costs_one_statement_and_no_lock():
    once()

    with CaptureQueriesContext(connection) as queries:
        once()

    (only,) = statements(queries)
    assert only.startswith("SELECT")
    assert "FOR UPDATE" not in only


def test_a_plain_task_is_still_one_insert():
    enqueue(tasks.nothing)
    with CaptureQueriesContext(connection) as queries:
        enqueue(tasks.nothing)

    (only,) = statements(queries)
    assert only.startswith("INSERT")


def test_a_task_that_runs_at_once_is_a_duplicate_like_any_other():
    first = once(paused=True)

    assert once(now=True) is None
    assert once(now=True, on_duplicate="return") == first
    assert TaskLog.objects.get().status == Status.PAUSED

    cancel(first)
    assert once(40, now=True).result == 40
    assert once() is not None


# The key


def test_without_a_job_id_an_explicit_job_name_is_the_key():
    first = enqueue(tasks.nothing, job_name="Recompute 7", deduplicate=True)

    assert first.job_id == first.job_name == "Recompute 7"
    assert enqueue(tasks.nothing, job_name="Recompute 7", deduplicate=True) is None
    assert enqueue(tasks.nothing, job_id="Recompute 7", deduplicate=True) is None


def test_a_job_id_is_the_key_and_the_job_name_beside_it_a_label():
    enqueue(tasks.nothing, job_id="a", job_name="Same", deduplicate=True)

    assert enqueue(tasks.nothing, job_id="b", job_name="Same", deduplicate=True) is not None


def test_job_names_are_keys_where_the_setting_says_so(conf):
    conf(DEDUPLICATE_BY_JOB_NAME=True)

    assert enqueue(tasks.nothing, job_name="recompute-balance-7") is not None
    assert enqueue(tasks.nothing, job_name="recompute-balance-7") is None
    assert enqueue(tasks.nothing) is not None
    assert enqueue(tasks.nothing) is not None
    assert enqueue(tasks.nothing, job_id="label") is not None
    assert enqueue(tasks.nothing, job_id="label") is not None


def test_on_duplicate_says_that_duplicates_are_not_welcome():
    first = enqueue(tasks.nothing, job_id="nightly", on_duplicate="return")

    assert enqueue(tasks.nothing, job_id="nightly", on_duplicate="return") == first


NO_KEY = (
    "deduplicate=True needs a key: give job_id=, or a job_name= that is the same for the "
    "same work."
)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"deduplicate": True}, NO_KEY),
        ({"deduplicate": True, "job_id": ""}, NO_KEY),
        ({"deduplicate": True, "job_name": ""}, NO_KEY),
        ({"on_duplicate": "return"}, NO_KEY),
        (
            {"job_id": "a", "on_duplicate": "drop"},
            "on_duplicate must be one of skip, return, replace, trailing, not 'drop'.",
        ),
        (
            {"job_id": "a", "deduplicate": "yes"},
            "deduplicate must be True or False, not 'yes'.",
        ),
        (
            {"job_id": "a" * 256, "deduplicate": True},
            "job_id is 256 characters long; at most 255 fit.",
        ),
        (
            {"job_name": "a" * 256, "deduplicate": True},
            "job_name is 256 characters long; at most 255 fit.",
        ),
        (
            {"job_id": "a\x00b", "deduplicate": True},
            "job_id='a\\x00b' holds characters that no database takes.",
        ),
    ],
)
def test_a_call_that_cannot_be_deduplicated_is_refused(options, sentence):
    with pytest.raises(InvalidCall) as refused:
        enqueue(tasks.nothing, **options)

    assert str(refused.value) == sentence
    assert isinstance(refused.value, ValueError)
    assert not TaskLog.objects.exists()


def test_a_key_of_the_longest_kind_fits():
    assert once(key="ä" * 255) is not None
    assert once(key="ä" * 255) is None


# Return


@pytest.mark.parametrize("status", UNENDED)
def test_return_answers_with_the_task_that_has_the_key(status):
    first = owner(status)

    assert once(2, on_duplicate="return") == first
    assert arguments(first) == 1


# Replace


@pytest.mark.parametrize("status", [Status.PENDING, Status.PAUSED, Status.QUEUED])
def test_replace_gives_a_waiting_task_the_newest_arguments(status):
    first = owner(status)
    before = first.rev

    answer = once(2, on_duplicate="replace")

    assert answer == first
    assert (answer.arguments["left"], answer.status) == (2, status)
    assert arguments(first) == 2
    assert first.rev == before + 1


def test_replace_reaches_a_task_that_waits_for_its_retry():
    first = owner(Status.FAILED, max_retries=1)
    TaskLog.objects.filter(pk=first.pk).update(retry_at=seconds_ago(-60))

    assert once(2, on_duplicate="replace") == first
    assert arguments(first) == 2


def test_replace_leaves_a_running_task_alone():
    first = owner(Status.STARTED)

    assert once(2, on_duplicate="replace") is None
    assert arguments(first) == 1
    assert TaskLog.objects.count() == 1


def test_replace_enqueues_when_nobody_has_the_key():
    assert arguments(once(2, on_duplicate="replace")) == 2


@pytest.mark.parametrize("on_duplicate", ["replace", "trailing"])
def test_arguments_never_go_to_a_task_of_another_kind(on_duplicate):
    first = once()

    with pytest.raises(InvalidCall) as refused:
        enqueue(tasks.give_back, value=1, job_id="nightly", on_duplicate=on_duplicate)

    assert str(refused.value) == (
        f"The key 'nightly' belongs to task {first.pk}, which runs tests.tasks.add; it "
        "cannot take the arguments of tests.tasks.give_back. Use a key for each kind of work."
    )


# Trailing


@pytest.mark.parametrize("on_duplicate", ["replace", "trailing"])
@pytest.mark.parametrize("owner_name", ["ann", "system"])
@pytest.mark.parametrize("asks", ["bob", "visitor"])
def test_nobody_says_what_the_task_of_another_runs_with_p8(on_duplicate, owner_name, asks):
    first = once(created_by=make_user("ann") if owner_name == "ann" else None)
    caller = make_user("bob") if asks == "bob" else AnonymousUser()

    with pytest.raises(NotPermitted) as refused:
        once(2, on_duplicate=on_duplicate, created_by=caller)

    assert str(refused.value) == (
        f"{'bob' if asks == 'bob' else 'AnonymousUser'} may not replace the arguments of "
        f"task {first.pk}, which holds the key 'nightly' and is another user's: the "
        "permission 'taskcontrol.prioritize_tasklog' is missing."
    )
    assert arguments(first) == 1


@pytest.mark.parametrize("asks", ["ann", "system", "operator", "visitor"])
def test_the_creator_the_system_and_an_operator_may_p8(asks):
    ann = make_user("ann")
    operator = make_user("ola", "prioritize_tasklog")
    callers = {"ann": ann, "system": None, "operator": operator, "visitor": AnonymousUser()}
    first = once(created_by=AnonymousUser() if asks == "visitor" else ann)

    assert once(2, on_duplicate="replace", created_by=callers[asks]) == first

    assert arguments(first) == 2


def trailing(left, **options):
    return once(left, on_duplicate="trailing", **options)


def test_trailing_enqueues_one_more_behind_the_task_that_runs():
    first = owner(Status.STARTED)

    second = trailing(2)

    second.refresh_from_db()
    assert (second.after_id, second.ready_lane) == (first.pk, None)
    assert (second.status, second.job_id) == (Status.PENDING, "nightly")
    assert arguments(first) == 1


def test_one_runs_and_one_waits_with_the_newest_arguments_however_many_come():
    owner(Status.STARTED)

    answers = [trailing(left) for left in range(2, 8)]

    assert len({answer.pk for answer in answers}) == 1
    assert arguments(answers[0]) == 7
    assert TaskLog.objects.count() == 2


@pytest.mark.parametrize("status", [Status.PENDING, Status.PAUSED, Status.QUEUED])
def test_trailing_merges_into_a_task_that_waits(status):
    first = owner(status)

    assert trailing(2) == first
    assert arguments(first) == 2
    assert TaskLog.objects.count() == 1


def test_trailing_goes_on_for_ever():
    running = owner(Status.STARTED)
    for left in range(2, 6):
        waiting = trailing(left)
        assert waiting.after_id == running.pk
        lifecycle.finish(running.pk, running.attempt)
        running = stand_in(Status.STARTED, waiting)

    assert TaskKey.objects.count() == 2
    assert TaskLog.objects.filter(status=Status.FINISHED).count() == 4


def test_the_one_that_waits_is_a_duplicate_for_all_others_when_the_first_has_ended():
    first = owner(Status.STARTED)
    second = trailing(2)
    lifecycle.finish(first.pk, first.attempt)

    assert once(3) is None
    assert once(3, on_duplicate="return") == second
    assert trailing(3) == second
    assert arguments(second) == 3


def test_a_retry_by_hand_of_the_first_is_refused_while_the_trailing_one_waits():
    first = owner(Status.STARTED)
    second = trailing(2)
    lifecycle.fail(first.pk, first.attempt, error="no")

    with pytest.raises(KeyTaken, match=f"belongs to task {second.pk} now"):
        retry(first)


def test_trailing_keeps_the_other_options_of_the_call():
    owner(Status.STARTED)

    second = trailing(2, run_at=timedelta(hours=1), queue="long", paused=True)

    assert (second.queue, second.status) == ("long", Status.PAUSED)
    assert second.run_at is not None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"now": True},
            'on_duplicate="trailing" lets a task wait for another; now=True runs it at once.',
        ),
        (
            {"is_async": False},
            'on_duplicate="trailing" lets a task wait for another; now=True runs it at once.',
        ),
        (
            {"after": 1},
            'on_duplicate="trailing" decides itself which task to wait for; leave out after=.',
        ),
    ],
)
def test_trailing_with_an_option_that_contradicts_it_is_refused(options, sentence):
    with pytest.raises(InvalidCall) as refused:
        wish_of({"job_id": "nightly", "on_duplicate": "trailing", **options})

    assert str(refused.value) == sentence


# Bulk


def test_bulk_leaves_duplicates_out_and_counts_without_them_p9():
    once(key="0")
    members = [{"left": n, "job_id": str(n % 4)} for n in range(10)]

    batch_id = bulk_enqueue(members, method=tasks.add, deduplicate=True)

    kept = TaskLog.objects.filter(batch_id=batch_id).order_by("batch_order")
    assert [row.arguments["left"] for row in kept] == [1, 2, 3]
    assert batches.progress(batch_id)["total"] == 3


def test_a_bulk_of_nothing_but_duplicates_is_an_empty_batch():
    once()

    batch_id = bulk_enqueue(
        [{"method": tasks.nothing, "job_id": "nightly"}] * 3, deduplicate=True
    )

    assert batches.progress(batch_id)["total"] == 0


@pytest.mark.parametrize("on_duplicate", ["replace", "trailing"])
def test_in_bulk_too_the_newest_arguments_win(on_duplicate):
    waiting, running = once(0, key="waits"), once(0, key="runs")
    stand_in(Status.STARTED, running)
    members = [
        {"left": n, "job_id": key} for n in (1, 2) for key in ("waits", "runs", "new")
    ]

    batch_id = bulk_enqueue(members, method=tasks.add, on_duplicate=on_duplicate)

    rows = TaskLog.objects.filter(batch_id=batch_id)
    expected = {"new"} if on_duplicate == "replace" else {"new", "runs"}
    assert {row.job_id for row in rows} == expected
    assert {row.arguments["left"] for row in rows} == {2}
    assert arguments(waiting) == 2
    assert arguments(running) == 0


def test_bulk_takes_keyed_and_plain_tasks_together():
    members = [{"left": 1, "job_id": "a", "deduplicate": True}, {"left": 2}] * 2

    bulk_enqueue(members, method=tasks.add)

    assert sorted(row.arguments["left"] for row in TaskLog.objects.all()) == [1, 2, 2]
    assert enqueue(tasks.add, left=3, job_id="a", deduplicate=True) is None


@pytest.mark.only_on("postgresql", "mysql")
def test_a_bulk_of_keyed_tasks_takes_the_same_number_of_statements_whatever_its_size():
    def cost(number):
        members = [{"job_id": f"{number}-{n}"} for n in range(number)]
        with CaptureQueriesContext(connection) as queries:
            bulk_enqueue(members, method=tasks.nothing, deduplicate=True)
        return len(statements(queries))

    cost(1)
    assert cost(2) == cost(100)


# Races


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("on_duplicate", ["skip", "return", "replace", "trailing"])
def test_of_many_calls_at_once_one_makes_a_task(on_duplicate):
    answers = race(*[lambda: once(on_duplicate=on_duplicate)] * 8)

    task = TaskLog.objects.get()
    expected = [task] * 8 if on_duplicate != "skip" else [task] + [None] * 7
    assert sorted(answers, key=lambda one: one is None) == expected


@pytest.mark.django_db(transaction=True)
def test_of_many_trailing_calls_at_once_one_makes_a_task():
    first = owner(Status.STARTED)

    answers = race(*[lambda n=n: trailing(n) for n in range(2, 10)])

    assert len({answer.pk for answer in answers}) == 1
    assert TaskLog.objects.exclude(pk=first.pk).get() == answers[0]


@pytest.mark.django_db(transaction=True)
def test_a_call_against_the_end_of_the_task_is_dropped_or_makes_one_more():
    for _ in range(10):
        TaskLog.objects.all().delete()
        first = owner(Status.STARTED)

        ended, *answers = race(
            lambda task=first: lifecycle.finish(task.pk, task.attempt), once, once, once
        )

        made = [one for one in answers if one is not None]
        assert ended is True
        assert len(made) <= 1
        assert TaskLog.objects.count() == 1 + len(made)
        assert (once() is None) is bool(made)


@pytest.mark.django_db(transaction=True)
def test_a_trailing_call_against_the_end_never_gets_lost():
    for _ in range(10):
        TaskLog.objects.all().delete()
        first = owner(Status.STARTED)

        race(
            lambda task=first: lifecycle.finish(task.pk, task.attempt),
            lambda: trailing(2),
            lambda: trailing(3),
        )

        (row,) = TaskLog.objects.exclude(pk=first.pk)
        assert row.arguments["left"] in (2, 3)
        assert row.after_id in (first.pk, None)


@pytest.mark.django_db(transaction=True)
def test_replace_against_the_claim_reaches_the_body_or_says_that_it_did_not():
    for _ in range(10):
        TaskLog.objects.all().delete()
        first = owner(Status.QUEUED)

        claimed, answer = race(
            lambda task=first: lifecycle.claim(
                task.pk, task.attempt, worker_id=None, pid=1
            ),
            lambda: once(2, on_duplicate="replace"),
        )

        seen = claimed.arguments["left"]
        assert seen == (2 if answer is not None else 1)
        assert arguments(first) == seen


@pytest.mark.django_db(transaction=True)
def test_a_call_against_a_retry_by_hand_leaves_one():
    for _ in range(10):
        TaskLog.objects.all().delete()
        first = owner(Status.FAILED)

        again, answer = race(lambda task=first: retry(task.pk), once)

        assert isinstance(again, KeyTaken) is (answer is not None)
        unended = TaskLog.objects.exclude(status__in=TERMINAL)
        assert unended.count() == 1


# Crashes

DIES_BEFORE_ITS_COMMIT = """
import os, signal
import django; django.setup()
from django.db import transaction
import taskcontrol
with transaction.atomic():
    assert taskcontrol.enqueue("tests.tasks.add", left=1, job_id="nightly", deduplicate=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.django_db(transaction=True)
def test_a_process_that_is_killed_while_it_takes_a_key_leaves_the_key_free():
    done = subprocess.run(
        [sys.executable, "-c", DIES_BEFORE_ITS_COMMIT], env=site_environment(), check=False
    )
    assert done.returncode == -signal.SIGKILL

    assert once() is not None
    assert once() is None


@pytest.mark.django_db(transaction=True)
def test_bulk_calls_over_the_same_keys_in_other_orders_make_each_task_once():
    keys = [str(n) for n in range(30)]

    def bulk(order):
        bulk_enqueue(
            [{"job_id": key} for key in order], method=tasks.nothing, deduplicate=True
        )

    answers = race(lambda: bulk(keys), lambda: bulk(keys[::-1]), lambda: bulk(keys))

    assert answers == [None] * 3
    assert TaskLog.objects.count() == 30


def test_a_label_does_not_defeat_the_key_that_the_setting_makes(conf):
    conf(DEDUPLICATE_BY_JOB_NAME=True)
    first = enqueue(tasks.nothing, job_name="N", job_id="y")

    assert first.job_id == "y"
    assert enqueue(tasks.nothing, job_name="N", job_id="z") is None
    assert enqueue(tasks.nothing, job_name="M", job_id="z") is not None


def test_an_error_names_the_key_and_not_the_label(conf):
    conf(DEDUPLICATE_BY_JOB_NAME=True)
    enqueue(tasks.nothing, job_name="N", job_id="y")

    with pytest.raises(InvalidCall, match="The key 'N' belongs to task"):
        enqueue(tasks.add, left=1, job_name="N", on_duplicate="replace")


@pytest.mark.parametrize("flag", [0, 1, "yes"])
def test_a_flag_is_true_or_false(flag):
    with pytest.raises(InvalidCall, match="deduplicate must be True or False"):
        enqueue(tasks.nothing, job_id="j", deduplicate=flag)
