"""``atwork.py``: bodies that a child runs by hand, and what the main process does about them."""

from __future__ import annotations

import signal

import pytest

from taskcontrol import interrupts, lifecycle, lines
from taskcontrol.atwork import PATIENCE
from taskcontrol.forks import DatabaseWork
from taskcontrol.hand import BEGUN_AFTER
from taskcontrol.models import TaskEvent
from taskcontrol.status import Status
from tests.byhand import Child, a_lease, by_hand, given, keeps, lets_time_pass, turn
from tests.children import a_child, runs
from tests.factories import make_type
from tests.mainprocess import a_row, nothing_held, now, told
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

Kind = TaskEvent.Kind


@pytest.fixture(autouse=True)
def _lease(monkeypatch):
    nothing_held(monkeypatch)
    with a_lease(monkeypatch):
        yield


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


@pytest.fixture
def process():
    with a_child() as process:
        yield process


@pytest.fixture
def real(hands, process):
    """A child behind which there is a process that can be killed."""
    return Child(hands, process.pid)


def busy(hands):
    return hands.boot.consumer.pool._pool._busy_workers


# Begun, and begun too late


def test_a_body_that_still_runs_is_written_down_as_begun(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job)
    turn(hands)
    hands.journal._write(DatabaseWork())
    assert now(task).status == Status.QUEUED

    child.runs(job, BEGUN_AFTER)
    turn(hands)
    hands.journal._write(DatabaseWork())

    assert (now(task).status, now(task).pid) == (Status.STARTED, child.pid)


def test_a_begin_is_told_once(hands, row, child):
    given(hands, row)
    (job,) = child.jobs()
    child.runs(job, BEGUN_AFTER)

    for _ in range(3):
        turn(hands)

    assert len(hands.journal._begins) == 1


def test_what_its_child_claims_itself_is_not_told(hands, row, child):
    given(hands, row, usual=None)
    (job,) = child.jobs()
    child.runs(job, BEGUN_AFTER)

    turn(hands)

    assert hands.journal._begins == []


def test_what_waits_behind_a_body_that_takes_long_is_given_to_another(hands, row, child):
    given(hands, row)
    behind = given(hands, row)
    job, _ = child.jobs()
    child.runs(job, BEGUN_AFTER)
    other = Child(hands)

    turn(hands)

    assert child.page.taken_back == 2
    assert [one.task_id for one in other.jobs()] == [behind.pk]
    assert list(child.hand.given) == [1]


def test_a_body_that_began_meanwhile_is_not_taken_back_p3(hands, row, child):
    """The child says first that it begins, and looks then whether it is still to do so."""
    given(hands, row)
    (job,) = child.jobs()
    child.runs(job)

    hands.running.take_back(child.hand)

    assert list(child.hand.given) == [1]
    assert not hands.deck.waiting


def test_a_child_that_begins_nothing_is_given_nothing_until_it_says_a_word(
    hands, row, child
):
    task = given(hands, row)
    lets_time_pass(hands, PATIENCE / 2)
    turn(hands)
    assert child.hand.given

    lets_time_pass(hands, PATIENCE)
    turn(hands)
    assert [one.key for one in hands.deck.waiting] == [(task.pk, 1)]
    assert hands.offer() is None

    (job,) = child.jobs()
    child.says(lines.UNBEGUN, job)
    lets_time_pass(hands, 1)
    turn(hands)

    assert [one.task_id for one in child.jobs()] == [task.pk]


@pytest.mark.parametrize("once", [True, False])
def test_celery_gives_nothing_to_a_child_at_which_a_short_type_takes_long(
    hands, row, child, once
):
    """Whoever writes its begin; another child may be idle."""
    given(hands, row, once=once)
    (job,) = child.jobs()
    child.runs(job)
    turn(hands)
    assert busy(hands) == set()

    child.runs(job, BEGUN_AFTER)
    turn(hands)
    assert busy(hands) == {child.inqW_fd}

    child.says(lines.RETURNED, job)
    assert busy(hands) == set()


def test_a_child_that_celery_has_given_something_stays_marked_by_it_when_a_body_lingers(
    hands, row, child
):
    given(hands, row)
    (job,) = child.jobs()
    child.runs(job)
    busy(hands).add(child.inqW_fd)
    child.runs(job, BEGUN_AFTER)
    turn(hands)

    child.says(lines.RETURNED, job)

    assert busy(hands) == {child.inqW_fd}


def test_what_waits_behind_a_body_that_lingers_leaves_its_child_marked(hands, row, child):
    given(hands, row)
    given(hands, row)
    job, _ = child.jobs()
    child.runs(job, BEGUN_AFTER)
    child.hand.linger(child.hand.at_work)

    hands.running.take_back(child.hand)

    assert list(child.hand.given) == [job.number]
    assert busy(hands) == {child.inqW_fd}


def test_a_child_is_unmarked_when_what_lingers_is_over_though_it_has_begun_the_next(
    hands, row, child
):
    given(hands, row)
    given(hands, row)
    job, behind = child.jobs()
    child.runs(job, BEGUN_AFTER)
    child.page._own[1] = behind.number  # it begins before it sees what is taken back
    turn(hands)
    assert busy(hands) == {child.inqW_fd}

    child.says(lines.RETURNED, job)

    assert list(child.hand.given) == [behind.number]
    assert busy(hands) == set()


# Signals


@pytest.mark.parametrize("number", [interrupts.CANCEL, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_is_sent_only_while_this_attempt_runs_p6(
    hands, row, real, process, number
):
    first, second = given(hands, row), given(hands, row)
    job, behind = real.jobs()
    real.runs(job)

    assert not hands.kill((second.pk, 1), number)
    assert real.page.halt == 0
    real.page.end()
    assert not hands.kill((first.pk, 1), number)
    assert (process.poll(), real.page.halt) == (None, 0)

    real.runs(behind)
    assert hands.kill((second.pk, 1), number)

    if number == interrupts.CANCEL:
        assert real.page.aim == behind.number
    else:
        assert real.page.halt == behind.number
        assert process.wait(10) == -number


def test_a_signal_that_comes_late_takes_back_no_other_p1(hands, row, real, process):
    task = given(hands, row)
    real.page.halt = 7  # its process is about to be ended for another

    assert not hands.kill((task.pk, 1), signal.SIGKILL)

    assert real.page.halt == 7


def test_with_a_process_goes_what_it_has_started_p4(hands, row, real, process):
    task = given(hands, row)
    (job,) = real.jobs()
    real.runs(job)

    hands.kill((task.pk, 1), signal.SIGKILL)

    assert process.wait(10) == -signal.SIGKILL
    eventually(lambda: not runs(process.grandchild))


def test_no_signal_is_sent_to_the_number_of_a_child_that_is_gone(hands, row, real, process):
    task = given(hands, row)
    (job,) = real.jobs()
    real.runs(job)
    real.line.closed = True

    assert not hands.kill((task.pk, 1), signal.SIGKILL)

    assert process.poll() is None


# Limits


def test_a_body_over_its_limit_is_told_so_once(hands, row, child, monkeypatch):
    sent = []
    given(hands, row, timeout=10)
    (job,) = child.jobs()
    with monkeypatch.context() as patched:
        patched.setattr("os.kill", lambda *given: sent.append(given))
        child.runs(job, 9)
        turn(hands)
        assert sent == []

        child.runs(job, 11)
        for _ in range(2):
            turn(hands)

    assert sent == [(child.pid, interrupts.TIMEOUT)]
    assert child.page.aim == job.number


def test_a_body_that_goes_on_after_its_grace_has_failed_and_holds_its_place_p4(
    hands, row, real, process, conf
):
    conf(CANCEL_GRACE=5)
    make_type()
    task = given(hands, row, timeout=10)
    (job,) = real.jobs()
    real.runs(job, 16)
    real.hand.at_work.warned = True

    turn(hands)
    hands.journal._write(DatabaseWork())
    keeps(hands)

    assert process.wait(10) == -signal.SIGTERM
    after = now(task)
    assert (after.status, after.ended_reason) == (Status.FAILED, "timed out")
    assert after.occupies
    assert real.page.halt == job.number


def test_who_does_not_go_at_a_word_is_killed(hands, real, process):
    real.hand.kill_at = float("inf")
    turn(hands)
    assert process.poll() is None

    real.hand.kill_at = 0.0
    turn(hands)

    assert process.wait(10) == -signal.SIGKILL
    assert real.hand.kill_at is None


# Cold stops


def test_a_cold_stop_gives_the_task_back_uncounted_and_ends_the_body_p1(
    hands, row, real, process
):
    make_type()
    task = given(hands, row)
    (job,) = real.jobs()
    real.runs(job)

    hands.stop_bodies()
    turn(hands)
    hands.journal._write(DatabaseWork())
    keeps(hands)

    assert process.wait(10) == -signal.SIGTERM
    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 0)
    assert told(task) == [Kind.RETURNED]
    assert now(task).occupies


def test_a_cold_stop_tells_each_body_once(hands, row, real):
    given(hands, row)
    (job,) = real.jobs()
    real.runs(job)
    hands.stop_bodies()

    for _ in range(2):
        turn(hands)

    assert len(hands.boot.keeper._errands) == 1


# Children that die


def test_the_task_of_a_child_that_died_is_lost_and_counted_p1(hands, row, child):
    make_type()
    task, behind = given(hands, row), given(hands, row)
    job, _ = child.jobs()
    child.runs(job)

    child.dies()
    keeps(hands)

    assert (now(task).status, now(task).lost_count) == (Status.PENDING, 1)
    assert told(task) == [Kind.RESCUED]
    assert hands.keys() == [(behind.pk, 1)]
    assert [one.key for one in hands.deck.waiting] == [(behind.pk, 1)]
    assert now(behind).status == Status.QUEUED


def test_a_loss_is_written_once_it_is_known_how_the_child_ended(hands, row, child):
    make_type()
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job)
    child.dies(None)
    keeps(hands)
    assert now(task).status == Status.QUEUED

    child.exitcode = -11
    keeps(hands)

    assert "SIGSEGV" in TaskEvent.objects.get(task=task).detail


def test_the_body_of_a_canceled_task_that_died_frees_its_place_p4(hands, row, child):
    task = given(hands, row)
    (job,) = child.jobs()
    child.runs(job)
    lifecycle.cancel(task)
    assert now(task).occupies

    child.dies()
    keeps(hands)

    assert (now(task).status, now(task).occupies) == (Status.CANCELED, False)


def test_a_child_that_died_is_unmarked(hands, row, child):
    given(hands, row, usual=None)
    busy = hands.boot.consumer.pool._pool._busy_workers
    assert busy

    child.dies()

    assert busy == set()
