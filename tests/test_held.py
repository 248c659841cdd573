"""A signal reaches the process that runs an attempt, while it does, and no other."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest
from billiard.exceptions import TimeLimitExceeded
from billiard.pool import ApplyResult
from celery.worker.request import Request

from taskcontrol import held
from taskcontrol.held import HeldRequest, Sturdy
from tests.children import a_child, answers, gives, runs
from tests.waiting import eventually

# No database is asked.
pytestmark = pytest.mark.only_on("sqlite")


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch):
    monkeypatch.setattr(held, "_held", set())
    monkeypatch.setattr(held, "_here", {})


@pytest.fixture
def child():
    with a_child() as process:
        yield process


@pytest.fixture
def other():
    with a_child() as process:
        yield process


def test_a_kill_ends_the_process_and_all_that_it_started_p6(child):
    gives(child, 7)

    assert held.kill(7, 1, signal.SIGKILL) is True

    assert child.wait(10) == -signal.SIGKILL
    eventually(lambda: not runs(child.grandchild))


def test_another_attempt_is_not_hit_p6(child):
    gives(child, 7, attempt=2)

    assert held.kill(7, 1, signal.SIGKILL) is False
    assert held.kill(8, 2, signal.SIGKILL) is False

    assert child.poll() is None


def test_a_child_that_goes_on_with_another_task_is_not_hit_for_the_first_p6(child):
    gives(child, 7)
    gives(child, 8)

    assert held.find(7, 1) is None
    assert held.kill(7, 1, signal.SIGKILL) is False
    assert held.attempts() == [(8, 1)]


@pytest.mark.parametrize("error", [None, ValueError("late")])
def test_a_child_that_has_answered_is_not_hit_p6(child, error):
    answers(gives(child, 7), error)

    assert held.kill(7, 1, signal.SIGKILL) is False

    assert child.poll() is None


def test_a_child_is_not_hit_while_its_answer_is_read_p6(child):
    """Between the question and the signal it could begin with another task."""
    job = gives(child, 7)
    with ThreadPoolExecutor(1) as pool:
        with job._mutex:
            killed = pool.submit(held.kill, 7, 1, signal.SIGKILL)
            with pytest.raises(TimeoutError):
                killed.result(timeout=0.3)
            job._success, job._value = True, None
            job._event.set()

        assert killed.result(timeout=10) is False
    assert child.poll() is None


def test_the_pools_own_answer_at_the_hard_limit_does_not_save_a_child_p6(child):
    answers(gives(child, 7), TimeLimitExceeded(5))

    assert held.attempts() == [(7, 1)]
    assert held.kill(7, 1, signal.SIGKILL) is True


def test_a_copy_of_its_message_takes_the_body_from_nobody_p3_p4(child, other):
    gives(child, 7)
    copy = gives(other, 7)
    answers(copy)

    assert held.has_body(7, 1)
    assert held.find(7, 1).pid == child.pid
    held.sweep(keep=())
    assert held.attempts() == [(7, 1)]


@pytest.mark.parametrize("first", [True, False])
def test_a_kill_reaches_the_body_whatever_became_of_a_copy_p6(child, other, first):
    if first:
        answers(gives(other, 7))
    gives(child, 7)
    if not first:
        answers(gives(other, 7))

    assert held.find(7, 1).pid == child.pid
    assert held.kill(7, 1, signal.SIGKILL) is True

    assert child.wait(10) == -signal.SIGKILL
    assert other.poll() is None
    assert not held.has_body(7, 1)


def test_a_kill_reaches_all_that_are_still_at_an_attempt_p6(child, other):
    gives(child, 7)
    gives(other, 7)

    assert held.kill(7, 1, signal.SIGKILL) is True

    assert [child.wait(10), other.wait(10)] == [-signal.SIGKILL] * 2


def test_of_several_the_last_tells_how_long_it_has_run(child, other):
    """An earlier one may be frozen before its claim: the body has its whole time."""
    gives(child, 7)
    held.find(7, 1).since -= 60
    gives(other, 7)

    assert held.find(7, 1).pid == other.pid


def test_a_process_that_is_dead_holds_nothing(child):
    gives(child, 7)
    child.kill()
    eventually(lambda: not runs(psutil.Process(child.pid)))

    assert held.find(7, 1).body_is_gone()
    assert held.attempts() == []
    assert held.kill(7, 1, signal.SIGKILL) is False


def test_what_runs_in_the_process_itself_is_named_while_it_does():
    held.begin_here(7, 1)
    assert held.attempts() == [(7, 1)]
    assert held.has_body(7, 1)

    held.end_here()

    assert held.attempts() == []


def test_the_number_of_those_that_are_named_is_bounded(monkeypatch):
    monkeypatch.setattr(held, "MOST_NAMED", 2)
    monkeypatch.setattr(held, "_here", {thread: (thread, 1) for thread in (3, 2, 1)})

    assert held.attempts() == [(2, 1), (3, 1)]


def test_a_body_that_runs_is_named_before_what_waits_for_a_child_p3(monkeypatch):
    """Or else the others would take it for lost while it runs."""
    monkeypatch.setattr(held, "MOST_NAMED", 3)
    monkeypatch.setattr(held, "_here", {1: (9, 1), 2: (8, 1)})
    monkeypatch.setattr(held, "by_hand", SimpleNamespace(keys=lambda: [(7, 1), (2, 1)]))

    assert held.attempts() == [(7, 1), (8, 1), (9, 1)]


def test_what_has_ended_is_forgotten_unless_somebody_still_asks_for_it(child):
    answers(gives(child, 7))

    held.sweep(keep={(7, 1)})
    assert held.find(7, 1) is not None

    held.sweep(keep=set())
    assert held.find(7, 1) is None


def test_what_a_child_begins_is_not_forgotten_with_what_it_did_before_p1(child):
    """The event loop hears of it in the middle of the keeper's sweep."""
    job = gives(child, 7)
    answers(job)

    def meanwhile():
        gives(child, 8)
        return True

    job.ready = meanwhile
    held.sweep(keep=())

    assert held.attempts() == [(8, 1)]


def test_what_still_runs_is_never_forgotten(child):
    gives(child, 7)

    held.sweep(keep=set())

    assert held.find(7, 1) is not None


# Celery's requests


@pytest.fixture
def request_of(monkeypatch):
    """A request of Celery of which only our part is looked at; it notes what Celery did."""
    accepted = []
    monkeypatch.setattr(Request, "on_accepted", lambda _, pid, __: accepted.append(pid))

    def make(*arguments):
        request = HeldRequest.__new__(HeldRequest)
        request._args, request.accepted = arguments, accepted
        request._apply_result = lambda: ApplyResult({}, None)
        return request

    return make


def test_the_child_that_begins_is_noted(request_of, child):
    request = request_of(7, 2)

    request.on_accepted(child.pid, 0.0)

    assert held.find(7, 2).pid == child.pid
    assert request.accepted == [child.pid]


def test_a_worker_never_takes_itself_for_a_child_p6(request_of):
    request = request_of(7, 2)

    request.on_accepted(psutil.Process().pid, 0.0)

    assert held.find(7, 2) is None


def test_a_forged_message_keeps_no_slot(request_of, child):
    request = request_of("forged")

    with pytest.raises(ValueError, match="not enough values"):
        request.on_accepted(child.pid, 0.0)

    assert request.accepted == [child.pid]


def test_a_child_that_found_no_memory_harms_no_worker(monkeypatch, caplog):
    def raises(*_):
        raise MemoryError

    monkeypatch.setattr(Request, "on_failure", raises)
    request = SimpleNamespace(name="taskcontrol.run", id="s-7-1")
    sturdy = Sturdy.__new__(Sturdy)
    monkeypatch.setattr(Sturdy, "name", request.name, raising=False)
    monkeypatch.setattr(Sturdy, "id", request.id, raising=False)

    assert sturdy.on_failure(None) is None

    assert "taskcontrol.run[s-7-1] found no memory in its child." in caplog.text
