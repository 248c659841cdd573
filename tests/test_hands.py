"""``hands.py``: what a child is given, what it answers, and what goes back to others."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest

from taskcontrol import bell, dispatch, lifecycle, lines
from taskcontrol.dispatch import make_pass
from taskcontrol.ends import EndKind
from taskcontrol.execution import here
from taskcontrol.forks import DatabaseWork
from taskcontrol.hand import BEGUN_AFTER
from taskcontrol.hands import LOOK, LOOK_SELDOM, WAITS_FOR
from taskcontrol.lines import Answer
from taskcontrol.models import DispatcherState, TaskEvent
from taskcontrol.slots import LOOKAHEAD
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.byhand import (
    RETURNED,
    USUAL,
    Child,
    a_lease,
    by_hand,
    given,
    keeps,
    lets_time_pass,
    promoted,
    turn,
)
from tests.factories import make_task, make_type, make_worker
from tests.mainprocess import a_row, nothing_held, now, told

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

Kind = TaskEvent.Kind


@pytest.fixture(autouse=True)
def lease(monkeypatch):
    nothing_held(monkeypatch)
    with a_lease(monkeypatch) as lease:
        yield lease


@pytest.fixture
def row():
    return a_row()


@pytest.fixture
def hands(row, monkeypatch):
    with by_hand(row, monkeypatch) as hands:
        yield hands


@pytest.fixture
def child(hands):
    return Child(hands)


def busy(hands):
    return hands.boot.consumer.pool._pool._busy_workers


# Giving


def test_what_a_pass_has_promoted_is_with_a_child_at_once(hands, row, child):
    task = given(hands, row)

    (job,) = child.jobs()
    assert (job.task_id, job.attempt) == (task.pk, 1)
    assert job.values is not None
    assert hands.keys() == [(task.pk, 1)]
    assert hands.find((task.pk, 1)).pid == child.pid


def test_what_has_more_to_tell_than_its_end_is_claimed_by_its_child(hands, row, child):
    given(hands, row, options={"atomic": True})

    (job,) = child.jobs()
    assert job.values is None


@pytest.mark.parametrize(
    ("once", "own", "simple"),
    [
        (False, None, True),
        (True, None, False),
        (False, "fail", False),
        (True, "rerun", True),
    ],
)
def test_what_must_not_begin_twice_is_claimed_by_its_child_p3(
    hands, row, child, once, own, simple
):
    task = given(hands, row, once=once, options={"on_lost": own} if own else {})

    assert hands.deck.all[task.pk, 1].writes_itself is not simple


@pytest.mark.parametrize("on_lost", ["rerun", "fail"])
def test_a_pass_asks_whether_the_type_may_begin_again_p3(hands, row, child, on_lost):
    make_type(on_lost=on_lost, declared={}, usual_seconds=0.001)
    task = make_task(Status.PENDING)

    make_pass(hands)

    assert hands.deck.all[task.pk, 1].writes_itself is (on_lost == "fail")


def test_a_pass_without_the_broker_promotes_nothing_for_other_workers_p1(
    hands, row, child, monkeypatch
):
    """Its own children are at something else, and it is not yet time to ask the broker."""
    make_worker()
    make_type()
    given(hands, row, usual=60.0)
    task = make_task(Status.PENDING)
    dispatcher_state()
    DispatcherState.objects.update(broker_error="refused")
    monkeypatch.setattr(dispatch, "_asked_at", time.monotonic())

    make_pass(hands)

    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_short_work_is_shared_out_by_what_each_has_to_do(hands, row, child):
    other = Child(hands)

    for _ in range(4):
        given(hands, row)

    assert (len(child.jobs()), len(other.jobs())) == (2, 2)


def test_nothing_waits_behind_what_may_be_long(hands, row, child):
    """However short its runs have been here."""
    hands.deck.learn("tests.tasks.nothing", USUAL)
    given(hands, row, usual=None)
    given(hands, row)

    assert len(child.jobs()) == 1
    assert len(hands.deck.waiting) == 1


def test_what_may_be_long_waits_behind_nothing(hands, row, child):
    hands.deck.learn("tests.tasks.nothing", USUAL)
    given(hands, row)
    given(hands, row, usual=None)

    assert len(child.jobs()) == 1


def test_a_child_is_given_no_more_than_a_little_work_at_once(hands, row, child):
    for _ in range(3):
        given(hands, row, usual=0.02)

    assert len(child.jobs()) == 1


def test_a_child_is_given_no_more_than_its_line_takes_in(hands, row, child, monkeypatch):
    monkeypatch.setattr("taskcontrol.hand.BYTES", 900)

    given(hands, row)
    given(hands, row)

    assert len(child.jobs()) == 1


def test_a_child_to_which_celery_has_given_something_is_given_nothing_p4(hands, row, child):
    busy(hands).add(child.inqW_fd)

    given(hands, row)

    assert child.jobs() == []
    assert hands.offer() is None


def test_celery_gives_nothing_to_a_child_that_is_at_something_long_p4(hands, row, child):
    given(hands, row, usual=None)
    assert busy(hands) == {child.inqW_fd}

    busy(hands).clear()  # as Celery does when it connects anew
    turn(hands)
    assert busy(hands) == {child.inqW_fd}

    (job,) = child.jobs()
    child.runs(job)
    child.says(lines.RETURNED, job)
    assert busy(hands) == set()


def test_a_job_of_celerys_that_waits_for_the_child_comes_first_p4(
    hands, row, child, monkeypatch
):
    """Celery's loop sleeps until somebody wakes it, and the deck has more for the child."""
    woken = []
    monkeypatch.setattr(hands.boot, "in_loop", lambda *given: woken.append(given))
    given(hands, row, usual=None)
    (job,) = child.jobs()
    child.runs(job)
    behind = given(hands, row)
    hands.boot.consumer.pool._pool.outbound_buffer.append("a job")

    child.says(lines.RETURNED, job)

    assert (busy(hands), child.jobs(), len(woken)) == (set(), [], 1)
    lets_time_pass(hands, 1)
    turn(hands)
    assert [one.task_id for one in child.jobs()] == [behind.pk]


def test_a_child_that_is_free_again_rests_for_nobody(hands, row, child):
    given(hands, row, usual=None)
    (job,) = child.jobs()
    child.runs(job)
    behind = given(hands, row)

    child.says(lines.RETURNED, job)

    assert [one.task_id for one in child.jobs()] == [behind.pk]


@pytest.mark.parametrize("once", [True, False])
def test_a_body_of_a_short_type_is_looked_at_until_it_is_known_to_linger(
    hands, row, child, once
):
    """Also one whose begin its child writes itself."""
    given(hands, row, once=once)
    (job,) = child.jobs()
    child.runs(job)
    assert hands._pause() == LOOK

    child.runs(job, BEGUN_AFTER)
    turn(hands)

    assert hands._pause() == LOOK_SELDOM


def test_what_celery_has_marked_itself_stays_marked(hands, row, child):
    given(hands, row)
    busy(hands).add(child.inqW_fd)

    (job,) = child.jobs()
    child.says(lines.RETURNED, job)

    assert busy(hands) == {child.inqW_fd}


def test_nothing_is_given_after_the_lease_p3(hands, row, child, lease):
    lease.end()

    assert hands.offer() is None
    given(hands, row)

    assert child.jobs() == []


def test_nothing_is_given_to_a_child_whose_process_may_be_about_to_end_p1(
    hands, row, child
):
    child.page.halt = 5

    given(hands, row)

    assert child.jobs() == []


# Offers


def test_an_offer_counts_the_children_that_have_nothing_to_do(hands, row, child):
    Child(hands)
    offer = hands.offer()
    assert (offer.worker_id, offer._places) == (row.pk, 2)
    assert offer._seconds == pytest.approx(2 * LOOKAHEAD)

    given(hands, row, usual=0.02)

    offer = hands.offer()
    assert offer._places == 1
    assert offer._seconds == pytest.approx(2 * LOOKAHEAD - 0.02)


def test_a_child_at_something_long_takes_nothing_ahead(hands, row, child):
    Child(hands)
    given(hands, row, usual=None)

    offer = hands.offer()

    assert (offer._places, offer._seconds) == (1, pytest.approx(0.0))


def test_what_waits_for_a_child_has_one_in_its_place(hands, row, child):
    Child(hands)
    hands.deck.put([SimpleNamespace(key=(7, 1), seconds=0.0, answered=False)])

    assert hands.offer()._places == 1


def test_who_has_no_row_offers_nothing(hands, child, monkeypatch):
    monkeypatch.setattr(here, "_shared", bytearray(8))

    assert hands.offer() is None


def test_who_leaves_offers_nothing(hands, child):
    assert hands.offer() is not None

    hands.boot.leave()

    assert hands.offer() is None


def test_who_is_watched_offers_nothing(hands, child):
    hands.boot.consumer.event_dispatcher = SimpleNamespace(enabled=True, groups=["task"])

    assert hands.offer() is None


# Answers


def test_the_end_of_a_body_that_has_returned_is_written_by_the_journal(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job)
    child.says(lines.RETURNED, job)
    assert now(task).status == Status.QUEUED
    assert hands.has((task.pk, 1))

    hands.journal._write(DatabaseWork())

    assert (now(task).status, now(task).result) == (Status.FINISHED, 7)
    assert (now(task).pid, hands.keys()) == (child.pid, [])


def test_what_a_child_has_written_itself_is_settled_and_asks_for_a_pass_w17(
    hands, row, child, monkeypatch
):
    rung = []
    monkeypatch.setattr(bell, "ring", lambda: rung.append(1))
    given(hands, row)
    (job,) = child.jobs()

    child.says(lines.DONE, job)

    assert hands.keys() == []
    assert rung == [1]


@pytest.mark.parametrize("canceled", [True, False])
def test_a_refusal_frees_the_place_p4(hands, row, child, canceled):
    task = given(hands, row)
    if canceled:
        lifecycle.cancel(task)
        assert now(task).occupies
    (job,) = child.jobs()

    child.says(lines.REFUSED, job)
    assert hands.has((task.pk, 1))
    keeps(hands)

    status = Status.CANCELED if canceled else Status.PENDING
    assert (now(task).status, now(task).occupies) == (status, False)
    assert hands.keys() == []


@pytest.mark.parametrize(
    ("what", "told", "over"),
    [
        (lines.RETURNED, RETURNED, True),
        (lines.UNWRITTEN, (EndKind.FAILED, {"error": "e"}), True),
        (lines.REFUSED, (), False),
    ],
)
def test_only_a_body_that_has_begun_has_an_end_to_be_written_p1(
    hands, row, child, what, told, over
):
    task = given(hands, row)
    (job,) = child.jobs()

    child.line.answer(Answer(job.number, what, 1.0, 2.0, told))
    turn(hands)

    assert hands.has((task.pk, 1))
    assert hands.deck.unwritten() == [(task.pk, 1)] * over


def test_what_a_child_did_not_begin_waits_again_and_the_child_rests(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()

    child.says(lines.UNBEGUN, job)

    assert child.jobs() == []
    assert [one.key for one in hands.deck.waiting] == [(task.pk, 1)]
    lets_time_pass(hands, 1)
    turn(hands)
    (again,) = child.jobs()
    assert (again.task_id, again.number) == (task.pk, 2)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_a_child_did_not_begin_waits_in_its_order_before_the_rest_p5(
    hands, row, child, at_once
):
    tasks = [given(hands, row) for _ in range(5)]
    jobs = child.jobs()
    busy(hands).add(child.inqW_fd)  # Celery has a job for it
    tasks.append(given(hands, row))

    for job in jobs:
        child.line.answer(Answer(job.number, lines.UNBEGUN))
        if not at_once:
            turn(hands)
    turn(hands)

    assert [one.key[0] for one in hands.deck.waiting] == [task.pk for task in tasks]


def test_the_answer_to_what_was_taken_back_is_nobodys(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    hands.running.take_back(child.hand)

    child.says(lines.RETURNED, job)

    assert hands.journal._ends == []
    assert hands.has((task.pk, 1))


def test_who_asks_whether_its_begin_is_written_is_told_so(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job)

    child.says(lines.ASKS, job)
    hands.journal._write(DatabaseWork())

    assert child.page.written == job.number
    assert now(task).status == Status.STARTED


# Giving back


def test_who_leaves_gives_back_what_has_not_begun_uncounted_p1(hands, row, child):
    first, second = given(hands, row), given(hands, row)
    job, _ = child.jobs()
    child.runs(job)
    waits = make_task(Status.PENDING)
    hands.boot.leave()
    given_late = promoted(row, waits)
    hands.deck.put([SimpleNamespace(key=(waits.pk, 1), card=given_late[0], number=0)])

    turn(hands)
    keeps(hands)

    assert child.page.taken_back == 2
    assert hands.keys() == [(first.pk, 1)]
    for task in (second, waits):
        assert (now(task).status, now(task).occupies) == (Status.PENDING, False)
        assert (now(task).lost_count, told(task)) == (0, [Kind.UNSENT])


def test_who_leaves_gives_nothing_more(hands, row, child):
    hands.boot.leave()

    given(hands, row)

    assert child.jobs() == []


def test_what_waits_long_for_a_child_is_for_others(hands, row, child):
    given(hands, row, usual=None)
    (job,) = child.jobs()
    child.runs(job)
    waits = given(hands, row)
    turn(hands)
    assert len(hands.deck.waiting) == 1

    lets_time_pass(hands, WAITS_FOR)
    turn(hands)
    keeps(hands)

    assert now(waits).status == Status.PENDING
    assert not hands.has((waits.pk, 1))


def test_a_canceled_task_that_is_being_given_back_breaks_no_look_at_the_others_p4(
    hands, row
):
    first, _ = given(hands, row), given(hands, row)
    lets_time_pass(hands, WAITS_FOR)
    lifecycle.cancel(first)
    turn(hands)

    assert not hands.drop((first.pk, 1))
    hands.boot.lookout.watch()
    keeps(hands)

    assert (now(first).status, now(first).occupies) == (Status.CANCELED, False)
    assert hands.keys() == []


def test_what_is_given_back_is_vouched_for_until_that_is_written_p1(hands, row, child):
    busy(hands).add(child.inqW_fd)
    task = given(hands, row)
    lets_time_pass(hands, WAITS_FOR)

    turn(hands)

    assert hands.has((task.pk, 1))


def test_who_was_declared_lost_forgets_all_that_others_have_now_p3(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()

    hands.forget()
    child.says(lines.UNBEGUN, job)

    assert (hands.keys(), list(hands.deck.waiting)) == ([], [])
    assert not hands.has((task.pk, 1))


def test_what_runs_is_named_first_of_what_this_worker_vouches_for_p3(hands, row, child):
    """A worker's row names a bounded number."""
    first, second = given(hands, row), given(hands, row)
    _, job = child.jobs()
    child.runs(job)

    assert hands.keys() == [(second.pk, 1), (first.pk, 1)]


def test_only_what_no_child_has_can_be_dropped(hands, row, child):
    task = given(hands, row)
    assert not hands.drop((task.pk, 1))

    hands.running.take_back(child.hand)

    assert hands.drop((task.pk, 1))


def test_what_a_child_said_last_is_heard_when_celerys_pool_has_ended_p1(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job, BEGUN_AFTER)
    turn(hands)
    hands.boot.leave()
    hands.boot.consumer.pool._pool = None

    child.says(lines.RETURNED, job)
    hands.journal._write(DatabaseWork())

    assert now(task).status == Status.FINISHED


# Children that come and go


def test_a_child_that_comes_later_is_given_what_waits(hands, row):
    task = given(hands, row)

    child = Child(hands)

    assert [job.task_id for job in child.jobs()] == [task.pk]


def test_a_child_that_is_gone_is_given_nothing(hands, row, child):
    child.dies()

    given(hands, row)

    assert len(hands.deck.waiting) == 1
    assert hands.offer() is None


def test_what_a_child_said_before_it_died_counts_p1(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job)
    child.line.answer(Answer(job.number, lines.RETURNED, 1.0, 2.0, RETURNED))

    child.dies()
    keeps(hands)
    hands.journal._write(DatabaseWork())

    assert now(task).status == Status.FINISHED


def test_a_turn_that_fails_ends_no_worker(hands, monkeypatch, caplog):
    turns = []

    def fails(*, wait=True):
        turns.append(wait)
        if len(turns) == 1:
            raise ValueError("a bad turn")
        hands._over = True

    monkeypatch.setattr("taskcontrol.hands.LOOK_SELDOM", 0)
    monkeypatch.setattr(hands, "_turn", fails)

    hands.serve_for_ever()

    assert turns == [True, True, False]
    assert "could not be served" in caplog.text


def test_a_signal_for_what_nobody_was_given_goes_nowhere(hands, child):
    assert not hands.kill((7, 1), signal.SIGKILL)
