"""Each arrow of the table of moves: what it moves, what it leaves, and what it tells."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import history, lifecycle
from taskcontrol.context import without_user_code
from taskcontrol.lifecycle import Ran, arrows
from taskcontrol.models import Announcement, TaskAttempt, TaskEvent, TaskLog
from taskcontrol.prepared import Thaw
from taskcontrol.status import ACTIVE, MOVES, TERMINAL, Status
from tests.factories import make_task, make_user, make_worker, seconds_ago
from tests.waiting import race_over

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

#: A row that every arrow finds ready, but for its status.
READY: dict[str, Any] = {"max_retries": 3, "retry_count": 1}


@dataclass
class Arrow:
    """One function of the room, and the moves that it makes."""

    call: Any
    sources: frozenset[Status]
    target: Status
    columns: Any = lambda status: {}


def due_for_retry(status):
    return {"retry_at": seconds_ago(1)} if status is Status.FAILED else {}


def expired(status):
    return {"expires_at": seconds_ago(1)}


def claimed(status):
    return {"worker": make_worker()}


def ran(task, **told):
    """Return a body that began two seconds ago and ended one second ago."""
    values = {"debug_log": "", "result": None, "progress": None, **told}
    now = time.monotonic()
    return Ran(task.pk, task.attempt, 8, now - 2, now - 1, 1.0, 77, *values.values())


ARROWS = {
    "promote": Arrow(
        lambda task: len(lifecycle.promote([task.pk], site="site")),
        frozenset({Status.PENDING}),
        Status.QUEUED,
    ),
    "claim": Arrow(
        lambda task: (
            lifecycle.claim(task.pk, task.attempt, worker_id=make_worker().pk, pid=8)
            is not None
        ),
        frozenset({Status.QUEUED}),
        Status.STARTED,
    ),
    "begin": Arrow(
        lambda task: lifecycle.begin(
            task.pk,
            task.attempt,
            worker_id=task.worker_id,
            pid=8,
            since=time.monotonic() - 0.1,
        ),
        frozenset({Status.QUEUED}),
        Status.STARTED,
        claimed,
    ),
    "finish_claimed": Arrow(
        lambda task: len(lifecycle.finish_claimed([ran(task)], worker_id=task.worker_id)),
        frozenset({Status.QUEUED, Status.STARTED}),
        Status.FINISHED,
        claimed,
    ),
    "promote_and_claim": Arrow(
        lambda task: len(
            lifecycle.promote_and_claim([task.pk], site="site", worker_id=make_worker().pk)
        ),
        frozenset({Status.PENDING}),
        Status.QUEUED,
    ),
    "finish": Arrow(
        lambda task: lifecycle.finish(task.pk, task.attempt),
        frozenset({Status.STARTED}),
        Status.FINISHED,
    ),
    "fail": Arrow(
        lambda task: lifecycle.fail(task.pk, task.attempt, error="E: bad"),
        frozenset({Status.STARTED}),
        Status.FAILED,
    ),
    "cancel": Arrow(
        lambda task: lifecycle.cancel(task) is not None,
        frozenset(
            {Status.PENDING, Status.PAUSED, Status.QUEUED, Status.STARTED, Status.FAILED}
        ),
        Status.CANCELED,
        due_for_retry,
    ),
    "expire": Arrow(
        lambda task: lifecycle.expire(100),
        frozenset({Status.PENDING, Status.PAUSED, Status.QUEUED}),
        Status.CANCELED,
        expired,
    ),
    "pause": Arrow(
        lambda task: lifecycle.pause(task.pk), frozenset({Status.PENDING}), Status.PAUSED
    ),
    "resume": Arrow(
        lambda task: lifecycle.resume(task.pk), frozenset({Status.PAUSED}), Status.PENDING
    ),
    "retry_due": Arrow(
        lambda task: lifecycle.retry_due([task.pk]),
        frozenset({Status.FAILED}),
        Status.PENDING,
        due_for_retry,
    ),
    "retry_by_hand, failed": Arrow(
        lambda task: lifecycle.retry_by_hand(task.pk, Status.FAILED),
        frozenset({Status.FAILED}),
        Status.PENDING,
    ),
    "retry_by_hand, canceled": Arrow(
        lambda task: lifecycle.retry_by_hand(task.pk, Status.CANCELED),
        frozenset({Status.CANCELED}),
        Status.PENDING,
    ),
    "rescue": Arrow(
        lambda task: lifecycle.rescue(task.pk, task.attempt, detail="lost"),
        frozenset({Status.STARTED}),
        Status.PENDING,
    ),
    "give_back": Arrow(
        lambda task: lifecycle.give_back(task.pk, task.attempt, detail="left"),
        frozenset({Status.STARTED}),
        Status.PENDING,
    ),
    "unsend": Arrow(
        lambda task: lifecycle.unsend([(task.pk, task.attempt)], detail="no broker"),
        frozenset({Status.QUEUED}),
        Status.PENDING,
    ),
}
MATRIX = [
    pytest.param(arrow, status, id=f"{name} of {status}")
    for name, arrow in ARROWS.items()
    for status in Status
]


def whole(task):
    """Return every column of the row."""
    return TaskLog.objects.filter(pk=task.pk).values().get()


# The matrix


def test_the_functions_make_exactly_the_moves_of_the_table():
    made = {(old, arrow.target) for arrow in ARROWS.values() for old in arrow.sources}

    assert made == {(old, new) for old, targets in MOVES.items() for new in targets}


@pytest.mark.parametrize(("arrow", "status"), MATRIX)
def test_an_arrow_moves_one_row_or_none(
    arrow, status, news, django_capture_on_commit_callbacks
):
    task = make_task(status, **READY, **arrow.columns(status))
    bystander = make_task(status, **READY)
    before, beside = whole(task), whole(bystander)

    with django_capture_on_commit_callbacks(execute=True):
        moved = arrow.call(task)

    after = whole(task)
    assert whole(bystander) == beside
    if status not in arrow.sources:
        assert not moved
        assert (after, news) == (before, [])
        assert not TaskEvent.objects.exists()
        return
    assert int(moved) == 1
    assert (after["status"], after["rev"]) == (arrow.target, before["rev"] + 1)
    assert [one[:3] for one in news] == [(task.pk, status, arrow.target)]


@pytest.mark.parametrize(
    ("old", "new"),
    [pair for pair in itertools.product(Status, Status) if pair[1] not in MOVES[pair[0]]],
)
def test_a_move_that_is_not_in_the_table_is_refused_before_any_sql(old, new):
    with (
        CaptureQueriesContext(connection) as queries,
        pytest.raises(ValueError, match="move"),
    ):
        arrows.move(TaskLog.objects.all(), old, new)

    assert statements(queries) == []


@pytest.mark.parametrize("status", [Status.QUEUED, Status.STARTED])
@pytest.mark.parametrize(
    "name",
    ["claim", "begin", "finish", "finish_claimed", "fail", "rescue", "give_back", "unsend"],
)
def test_another_attempt_moves_nothing_p3(name, status, news):
    task = make_task(status, attempt=3)
    before = whole(task)

    for wrong in (0, 2, 4):
        task.attempt = wrong
        assert not ARROWS[name].call(task)

    assert (whole(task), news) == (before, [])


# What a move writes


def test_a_promotion_gives_the_next_attempt_an_id_of_its_own():
    first, second = make_task(attempt=4), make_task()

    lifecycle.promote([first.pk, second.pk], site="0a1b")

    ids = dict(TaskLog.objects.values_list("pk", "celery_task_id"))
    assert ids == {first.pk: f"0a1b-{first.pk}-5", second.pk: f"0a1b-{second.pk}-1"}


def test_a_promotion_of_nothing_is_nothing():
    assert lifecycle.promote([], site="s") == []


def test_a_promotion_returns_only_what_it_moved():
    free = make_task()
    taken = make_task(Status.QUEUED)
    waiting_for_its_body = make_task(occupies=True)

    moved = lifecycle.promote([free.pk, taken.pk, waiting_for_its_body.pk], site="s")

    assert [task.pk for task in moved] == [free.pk]


def test_a_claim_returns_what_the_worker_needs_in_one_statement():
    task = make_task(Status.QUEUED, arguments={"a": 1}, timeout=7)
    worker, vendor = make_worker().pk, connection.vendor

    with CaptureQueriesContext(connection) as queries:
        row = lifecycle.claim(task.pk, 1, worker_id=worker, pid=4)
        seen = (row.method, row.arguments, row.timeout, row.options, row.created_by_id)

    assert seen == (task.method, {"a": 1}, 7, {}, None)
    if vendor != "mysql":
        assert len(statements(queries)) == 1


def statements(queries):
    """Leave out what only opens and closes a transaction."""
    words = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
    return [one["sql"] for one in queries if not one["sql"].upper().startswith(words)]


@pytest.mark.only_on("postgresql", "sqlite")
@pytest.mark.parametrize("name", ["finish", "fail"])
def test_an_end_is_one_statement(name):
    task = make_task(Status.STARTED)

    with CaptureQueriesContext(connection) as queries:
        ARROWS[name].call(task)

    assert len(statements(queries)) == 1


@pytest.mark.parametrize("gone", ["lost_at", "left_at"])
def test_a_worker_that_counts_as_gone_claims_nothing_p3(gone):
    worker = make_worker(**{gone: seconds_ago(1)})
    task = make_task(Status.QUEUED)
    before = whole(task)

    assert lifecycle.claim(task.pk, 1, worker_id=worker.pk, pid=1) is None
    assert lifecycle.claim(task.pk, 1, worker_id=worker.pk + 1, pid=1) is None

    assert whole(task) == before


def test_nobody_claims_what_has_expired():
    task = make_task(Status.QUEUED, expires_at=seconds_ago(1))

    assert lifecycle.claim(task.pk, 1, worker_id=None, pid=1) is None


@pytest.mark.parametrize(("age", "lives"), [(-60, True), (60, False)])
def test_expiry_goes_by_the_clock_of_the_database(age, lives):
    task = make_task(Status.PENDING, expires_at=seconds_ago(age))

    assert lifecycle.expire(10) == (0 if lives else 1)

    assert whole(task)["status"] == (Status.PENDING if lives else Status.CANCELED)


def test_expiry_takes_a_page_of_each_status_and_says_why():
    for status in (Status.PENDING, Status.PAUSED, Status.QUEUED):
        for _ in range(3):
            make_task(status, expires_at=seconds_ago(5))

    assert [lifecycle.expire(2) for _ in range(3)] == [6, 3, 0]

    assert set(TaskLog.objects.values_list("ended_reason", flat=True)) == {
        "expired before it started"
    }
    assert TaskEvent.objects.filter(kind=TaskEvent.Kind.EXPIRED).count() == 9


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (
            lambda task: lifecycle.rescue(task.pk, 1, detail="lost"),
            "its process was lost, and it expired before it could start again",
        ),
        (
            lambda task: lifecycle.give_back(task.pk, 1, detail="left"),
            "expired before it could start again",
        ),
    ],
    ids=["lost", "given back"],
)
def test_what_had_begun_is_not_said_to_have_expired_before_it_started(again, said):
    task = make_task(Status.STARTED, expires_at=seconds_ago(5))
    assert again(task)

    assert lifecycle.expire(10) == 1

    assert (whole(task)["status"], whole(task)["ended_reason"]) == (Status.CANCELED, said)


@pytest.mark.parametrize(
    ("count", "most", "due"), [(0, 1, True), (0, 0, False), (1, 1, False), (5, 2, False)]
)
def test_the_update_that_fails_a_task_decides_whether_a_retry_is_due_p7(count, most, due):
    task = make_task(Status.STARTED, retry_count=count, max_retries=most)

    lifecycle.fail(task.pk, 1, error="E", retry_in=60)

    row = TaskLog.objects.get(pk=task.pk)
    assert (row.retry_at is not None) is due
    assert row.ended is not due


def test_a_retry_beyond_their_number_is_not_made_p7():
    task = make_task(Status.FAILED, retry_at=seconds_ago(1), retry_count=2, max_retries=2)

    assert lifecycle.retry_due([task.pk]) == 0


def test_a_retry_that_is_not_yet_due_is_not_made_p7():
    task = make_task(Status.FAILED, retry_at=seconds_ago(-60), max_retries=2)

    assert lifecycle.retry_due([task.pk]) == 0


def test_a_retry_is_due_so_many_seconds_after_the_failure_by_the_databases_clock():
    task = make_task(Status.STARTED, max_retries=1)

    lifecycle.fail(task.pk, 1, error="E", retry_in=90.5)

    row = TaskLog.objects.get(pk=task.pk)
    assert (
        timedelta(0)
        <= row.retry_at - row.ended_at - timedelta(seconds=90.5)
        < timedelta(seconds=1)
    )


def test_the_news_of_a_failure_carries_what_happened(
    news, django_capture_on_commit_callbacks
):
    task = make_task(Status.STARTED)

    with django_capture_on_commit_callbacks(execute=True):
        lifecycle.fail(task.pk, 1, error="Traceback\n  File x\nValueError: bad\n")

    assert news == [(task.pk, Status.STARTED, Status.FAILED, None, "ValueError: bad")]


@pytest.mark.parametrize(
    "name", ["retry_due", "retry_by_hand, failed", "rescue", "give_back"]
)
def test_a_row_that_runs_again_has_forgotten_its_last_run(name):
    status = Status.STARTED if name in {"rescue", "give_back"} else Status.FAILED
    task = make_task(
        status,
        **READY,
        **due_for_retry(status),
        error_message="E",
        debug_log="log",
        result={"a": 1},
        progress={"count": 1},
        peak_memory_usage=5,
        ended_reason="why",
        sent_count=2,
    )

    ARROWS[name].call(task)

    row = whole(task)
    assert {name: row[name] for name in history.CLEARED if name in row} == {
        name: value for name, value in history.CLEARED.items() if name in row
    }
    assert (row["canceled_by_id"], row["attempt"], row["occupies"]) == (None, 1, False)
    assert row["ready_lane"] == row["lane"]


def test_a_promoted_row_passes_every_status_with_its_times():
    task = make_task()
    lifecycle.promote([task.pk], site="s")
    lifecycle.claim(task.pk, 1, worker_id=None, pid=1)
    lifecycle.finish(task.pk, 1, result=[1])

    row = TaskLog.objects.get(pk=task.pk)
    assert row.created_at <= row.queued_at <= row.started_at <= row.ended_at
    assert (row.rev, row.attempt, row.occupies, row.result) == (3, 1, False, [1])
    assert not TaskEvent.objects.exists()


# The place that a body holds


def test_a_canceled_body_holds_its_place_until_it_is_gone_p4():
    task = make_task(Status.STARTED)

    lifecycle.cancel(task)
    assert whole(task)["occupies"] is True

    assert lifecycle.release(task.pk, 1) is True
    assert whole(task)["occupies"] is False


def test_a_place_is_freed_once():
    task = make_task(Status.CANCELED, occupies=True)

    assert [lifecycle.release(task.pk, 1) for _ in range(2)] == [True, False]


def test_a_retry_waits_for_the_body_of_the_attempt_before_p4():
    task = make_task(Status.STARTED)
    lifecycle.cancel(task)
    lifecycle.retry_by_hand(task.pk, Status.CANCELED)
    assert (whole(task)["ready_lane"], whole(task)["occupies"]) == (None, True)
    assert lifecycle.promote([task.pk], site="s") == []

    lifecycle.release(task.pk, 1)

    assert whole(task)["ready_lane"] == task.lane
    assert len(lifecycle.promote([task.pk], site="s")) == 1


def test_a_failure_for_good_is_not_canceled_among_others():
    make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(1))
    final = make_task(Status.FAILED)

    assert lifecycle.cancel_all(TaskLog.objects.all(), Status.FAILED) == 1

    assert whole(final)["status"] == Status.FAILED


@pytest.mark.parametrize("stop", ["cancel", "expire", "pause"])
def test_a_body_that_still_runs_holds_its_place_whatever_becomes_of_its_retry_p4(stop):
    task = make_task(Status.STARTED, expires_at=seconds_ago(1), max_retries=1)
    lifecycle.fail(task.pk, 1, error="E", retry_in=0, body_gone=False)
    lifecycle.retry_due([task.pk])

    assert ARROWS[stop].call(task)

    assert whole(task)["occupies"] is True
    lifecycle.release(task.pk, 1)
    assert whole(task)["occupies"] is False


def test_a_paused_retry_whose_body_goes_stays_paused():
    task = make_task(Status.STARTED)
    lifecycle.cancel(task)
    lifecycle.retry_by_hand(task.pk, Status.CANCELED)
    lifecycle.pause(task.pk)

    lifecycle.release(task.pk, 1)
    assert whole(task)["ready_lane"] is None

    lifecycle.resume(task.pk)
    assert whole(task)["ready_lane"] == task.lane


def test_a_body_killed_at_its_hard_limit_holds_its_place_until_it_is_gone_p4():
    task = make_task(Status.STARTED, max_retries=1)

    lifecycle.fail(task.pk, 1, error="E", retry_in=0, body_gone=False)
    assert whole(task)["occupies"] is True

    lifecycle.retry_due([task.pk])
    assert whole(task)["ready_lane"] is None


@pytest.mark.parametrize("status", sorted(ACTIVE))
def test_an_active_task_is_never_released(status):
    task = make_task(status)

    assert lifecycle.release(task.pk, 1) is False
    assert whole(task)["occupies"] is True


def test_an_older_attempt_releases_nothing():
    task = make_task(Status.CANCELED, attempt=2, occupies=True)

    assert lifecycle.release(task.pk, 1) is False


def test_a_task_whose_time_has_not_come_stands_in_no_lane_after_a_pause():
    task = make_task(run_at=seconds_ago(-600))

    lifecycle.pause(task.pk)
    lifecycle.resume(task.pk)

    assert whole(task)["ready_lane"] is None


# Attempts


def attempts(task):
    return list(
        TaskAttempt.objects.filter(task=task)
        .order_by("attempt")
        .values_list("attempt", "status", "ended_reason")
    )


def go_on(task):
    """Promote and claim; return the attempt."""
    (moved,) = lifecycle.promote([task.pk], site="s")
    assert lifecycle.claim(task.pk, moved.attempt, worker_id=None, pid=1)
    return moved.attempt


def test_each_run_that_was_followed_by_another_is_kept_once():
    task = make_task(max_retries=1)
    lifecycle.fail(task.pk, go_on(task), error="E: first", retry_in=0)
    lifecycle.retry_due([task.pk])
    lifecycle.give_back(task.pk, go_on(task), detail="its worker left")
    go_on(task)
    lifecycle.cancel(task, reason="no more")
    lifecycle.release(task.pk, 3)
    lifecycle.retry_by_hand(task.pk, Status.CANCELED)
    lifecycle.rescue(task.pk, go_on(task), detail="w was lost")
    lifecycle.finish(task.pk, go_on(task))

    assert attempts(task) == [
        (1, Status.FAILED, ""),
        (2, Status.FAILED, "its worker left"),
        (3, Status.CANCELED, "no more"),
        (4, Status.FAILED, "w was lost"),
    ]
    row = TaskLog.objects.get(pk=task.pk)
    assert (row.status, row.attempt, row.retry_count, row.lost_count) == (
        Status.FINISHED,
        5,
        2,
        1,
    )


def test_a_task_canceled_before_it_started_leaves_no_attempt():
    task = make_task()
    for _ in range(2):
        lifecycle.cancel(task)
        lifecycle.retry_by_hand(task.pk, Status.CANCELED)
    lifecycle.promote([task.pk], site="s")
    lifecycle.cancel(task)
    lifecycle.retry_by_hand(task.pk, Status.CANCELED)

    assert attempts(task) == []


def test_a_canceled_retry_does_not_keep_the_run_before_it_twice():
    task = make_task(max_retries=5)
    lifecycle.fail(task.pk, go_on(task), error="E", retry_in=0)
    lifecycle.retry_due([task.pk])
    lifecycle.cancel(task)
    lifecycle.retry_by_hand(task.pk, Status.CANCELED)
    lifecycle.promote([task.pk], site="s")
    lifecycle.cancel(task)
    lifecycle.retry_by_hand(task.pk, Status.CANCELED)

    assert attempts(task) == [(1, Status.FAILED, "")]


def test_an_attempt_is_kept_with_all_that_the_row_said():
    worker = make_worker()
    task = make_task(
        Status.FAILED,
        worker=worker,
        error_message="E",
        debug_log="log",
        peak_memory_usage=9,
        ended_reason="why",
    )
    task.refresh_from_db()

    lifecycle.retry_by_hand(task.pk, Status.FAILED)

    (kept,) = TaskAttempt.objects.values()
    same = set(kept) - {"id", "task_id"}
    assert {name: kept[name] for name in same} == {
        name: getattr(task, name) for name in same
    }


# Events and news


def test_a_person_s_act_is_recorded_with_the_reason():
    user = make_user("ann")
    task = make_task()

    lifecycle.cancel(task, actor=user, reason="x" * 600)

    (event,) = TaskEvent.objects.all()
    assert (event.kind, event.actor, event.old, event.new, event.detail) == (
        TaskEvent.Kind.CANCELED,
        user,
        Status.PENDING,
        Status.CANCELED,
        "x" * 500,
    )
    assert whole(task)["ended_reason"] == "x" * 300


@pytest.mark.parametrize("reason", ["no\0pe", "no\ud800pe"])
@pytest.mark.parametrize("name", ["cancel", "pause"])
def test_a_reason_that_no_database_takes_is_stored_readably(
    name, reason, news, django_capture_on_commit_callbacks
):
    task = make_task()

    with django_capture_on_commit_callbacks(execute=True):
        if name == "cancel":
            lifecycle.cancel(task, reason=reason)
        else:
            lifecycle.pause(task.pk, reason=reason)

    assert [event.detail for event in TaskEvent.objects.all()] == ["no\ufffdpe"]
    assert [one.message for one in news] == ["no\ufffdpe"]


def test_a_receiver_that_raises_harms_nobody(
    news, caplog, django_capture_on_commit_callbacks
):
    from taskcontrol.events import task_status_changed

    def broken(**_):
        raise RuntimeError("receiver")

    task_status_changed.connect(broken)
    task = make_task()
    try:
        with django_capture_on_commit_callbacks(execute=True):
            lifecycle.cancel(task)
    finally:
        task_status_changed.disconnect(broken)

    assert len(news) == 1
    assert "failed for task" in caplog.text


def test_where_user_code_must_not_run_the_news_is_stored(news):
    task = make_task()

    with without_user_code():
        lifecycle.cancel(task, reason="why")

    assert news == []
    (stored,) = Announcement.objects.all()
    assert (stored.task_id, stored.old, stored.new, stored.message, stored.rev) == (
        task.pk,
        Status.PENDING,
        Status.CANCELED,
        "why",
        1,
    )


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_move_is_not_told_p2(news):
    task = make_task()

    with transaction.atomic():
        lifecycle.cancel(task)
        transaction.set_rollback(True)

    assert (news, whole(task)["status"]) == ([], Status.PENDING)


# Races: two connections, two hundred rows, one answer each

RACES = 200


@pytest.mark.django_db(transaction=True)
def test_cancel_against_finish_has_one_answer_p6():
    tasks = [make_task(Status.STARTED) for _ in range(RACES)]

    answers = race_over(
        tasks,
        lifecycle.cancel,
        lambda task: lifecycle.finish(task.pk, 1),
    )

    for task, (left, finished) in zip(tasks, answers, strict=True):
        status = whole(task)["status"]
        assert (left, finished, status) in {
            (Status.STARTED, False, Status.CANCELED),
            (None, True, Status.FINISHED),
        }


@pytest.mark.django_db(transaction=True)
def test_cancel_against_claim_has_one_answer_p6():
    tasks = [make_task(Status.QUEUED) for _ in range(RACES)]

    answers = race_over(
        tasks,
        lifecycle.cancel,
        lambda task: lifecycle.claim(task.pk, 1, worker_id=None, pid=1) is not None,
    )

    for task, (left, claimed) in zip(tasks, answers, strict=True):
        row = whole(task)
        assert row["status"] == Status.CANCELED
        assert left in {Status.QUEUED, Status.STARTED}
        assert claimed is (left is Status.STARTED)
        assert row["occupies"] is claimed


@pytest.mark.django_db(transaction=True)
def test_of_two_claims_one_wins_p3():
    tasks = [make_task(Status.QUEUED) for _ in range(RACES)]

    def claim(task):
        return lifecycle.claim(task.pk, 1, worker_id=None, pid=1) is not None

    answers = race_over(tasks, claim, claim)

    assert all(sorted(both) == [False, True] for both in answers)


@pytest.mark.django_db(transaction=True)
def test_two_retries_of_one_task_count_once_p7():
    tasks = [
        make_task(Status.FAILED, max_retries=3, retry_at=seconds_ago(1))
        for _ in range(RACES)
    ]

    answers = race_over(
        tasks,
        lambda task: lifecycle.retry_due([task.pk]),
        lambda task: int(lifecycle.retry_by_hand(task.pk, Status.FAILED)),
    )

    assert all(sorted(both) == [0, 1] for both in answers)
    assert set(TaskLog.objects.values_list("retry_count", "status")) == {
        (1, Status.PENDING)
    }
    assert TaskAttempt.objects.count() == RACES


@pytest.mark.django_db(transaction=True)
def test_two_retries_of_several_tasks_count_each_once_p7():
    batches = [f"b{number}" for number in range(RACES // 4)]
    for batch_id in batches:
        for _ in range(3):
            make_task(Status.FAILED, max_retries=3, batch_id=batch_id)

    def retry(batch_id):
        rows = TaskLog.objects.filter(batch_id=batch_id)
        return lifecycle.retry_all(rows, Status.FAILED)

    answers = race_over(batches, retry, retry)

    assert all(sorted(both) == [0, 3] for both in answers)
    assert set(TaskLog.objects.values_list("retry_count", "status")) == {
        (1, Status.PENDING)
    }
    kept = TaskAttempt.objects.values_list("status", flat=True)
    assert list(kept) == [Status.FAILED] * 3 * len(batches)


@pytest.mark.django_db(transaction=True)
def test_a_rescue_against_the_late_end_of_the_body_has_one_answer_p3():
    tasks = [make_task(Status.STARTED) for _ in range(RACES)]

    answers = race_over(
        tasks,
        lambda task: lifecycle.rescue(task.pk, 1, detail="lost"),
        lambda task: lifecycle.finish(task.pk, 1, result="late"),
    )

    assert all(sorted(both) == [False, True] for both in answers)
    for task, (rescued, _) in zip(tasks, answers, strict=True):
        assert whole(task)["status"] == (Status.PENDING if rescued else Status.FINISHED)
    assert TaskAttempt.objects.count() == sum(rescued for rescued, _ in answers)


@pytest.mark.django_db(transaction=True)
def test_two_cancels_of_a_started_task_are_one_p6(news):
    tasks = [make_task(Status.STARTED) for _ in range(RACES)]

    answers = race_over(tasks, lifecycle.cancel, lifecycle.cancel)

    assert all(both in ([Status.STARTED, None], [None, Status.STARTED]) for both in answers)
    assert len(news) == RACES


def test_terminal_is_what_has_an_end():
    assert {arrow.target for arrow in ARROWS.values()} >= TERMINAL


# What a worker has claimed as it was sent


@pytest.fixture
def owner():
    return make_worker()


def test_what_a_worker_has_claimed_is_begun_by_no_other_p3(owner):
    task, other = make_task(Status.QUEUED, worker=owner), make_worker()
    before = whole(task)

    assert lifecycle.claim(task.pk, 1, worker_id=other.pk, pid=8) is None
    assert lifecycle.claim(task.pk, 1, worker_id=None, pid=8) is None
    assert not lifecycle.begin(task.pk, 1, worker_id=other.pk, pid=8, since=0)
    assert not lifecycle.finish_claimed([ran(task)], worker_id=other.pk)

    assert whole(task) == before
    assert lifecycle.claim(task.pk, 1, worker_id=owner.pk, pid=8) is not None


@pytest.mark.parametrize("arrow", ["finish", "fail", "cancel"])
def test_a_database_clock_that_is_set_back_ends_nothing_before_it_began(arrow):
    task = make_task(Status.STARTED, started_at=seconds_ago(-60))

    assert ARROWS[arrow].call(task)

    after = whole(task)
    assert after["ended_at"] == after["started_at"]


def test_what_a_worker_has_claimed_is_given_back_by_it_alone_p3(owner):
    task = make_task(Status.QUEUED, worker=owner)

    assert not lifecycle.unsend([(task.pk, 1)], detail="no broker")
    assert not lifecycle.unsend([(task.pk, 1)], detail="left", worker_id=make_worker().pk)
    assert lifecycle.unsend([(task.pk, 1)], detail="left", worker_id=owner.pk)

    after = whole(task)
    assert (after["status"], after["worker_id"], after["occupies"]) == (
        "Pending",
        None,
        False,
    )


def test_a_canceled_task_keeps_its_place_while_its_worker_may_run_it_p4_p6(owner):
    task, sent = make_task(Status.QUEUED, worker=owner), make_task(Status.QUEUED)

    assert lifecycle.cancel(task) == lifecycle.cancel(sent) == Status.QUEUED

    assert (whole(task)["occupies"], whole(sent)["occupies"]) == (True, False)
    assert whole(task)["cancel_requested_at"] is not None
    assert whole(sent)["cancel_requested_at"] is None
    assert lifecycle.release(task.pk, 1)


def test_what_a_worker_has_claimed_does_not_expire_under_it(owner):
    task = make_task(Status.QUEUED, worker=owner, expires_at=seconds_ago(1))

    assert lifecycle.expire(10) == 0
    assert whole(task)["status"] == Status.QUEUED


def test_nothing_is_claimed_for_a_worker_that_is_gone_p1():
    task = make_task()

    for gone in ("lost_at", "left_at"):
        worker = make_worker(**{gone: seconds_ago(1)})
        cards = lifecycle.promote_and_claim([task.pk], site="s", worker_id=worker.pk)
        assert cards == []
    assert whole(task)["status"] == Status.PENDING


def test_a_card_tells_what_stands_in_the_row(owner):
    task = make_task(arguments={"a": 1}, timeout=9)

    (card,) = lifecycle.promote_and_claim([task.pk], site="s", worker_id=owner.pk)

    names = tuple(dict.fromkeys(["id", "rev", "heard", *lifecycle.CLAIMED]))
    row = Thaw(TaskLog, names, "default")(card.values)
    assert (card.pk, card.attempt, card.timeout, card.heard) == (task.pk, 1, 9, False)
    assert {name: getattr(row, name) for name in names} == {
        name: value for name, value in whole(task).items() if name in names
    }


def test_an_end_that_is_written_late_says_when_it_was(owner):
    task = make_task(Status.QUEUED, worker=owner)
    told = {"debug_log": "said", "result": {"a": [1, None]}, "progress": {"count": 3}}

    assert lifecycle.finish_claimed([ran(task, **told)], worker_id=owner.pk) == {task.pk}

    after = whole(task)
    assert (after["ended_at"] - after["started_at"]).total_seconds() == pytest.approx(
        1, abs=0.1
    )
    assert after["started_at"] >= after["queued_at"]
    assert {name: after[name] for name in told} == told
    assert (after["pid"], after["peak_memory_usage"]) == (8, 77)
    assert after["time_taken"] == timedelta(seconds=1)
