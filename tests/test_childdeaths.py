"""A child's death is seen by its exit, and what ran in it is lost then and no sooner."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest

from taskcontrol import interrupts, lines, prefork
from taskcontrol.deck import Offer, Taken
from taskcontrol.forks import DatabaseWork
from taskcontrol.hands import LOOK, Hands
from taskcontrol.lifecycle import promote_and_claim
from taskcontrol.lines import Answer, Job, Lease, Line, Page
from taskcontrol.models import TaskEvent
from taskcontrol.serving import Servant
from taskcontrol.status import Status
from tests.children import a_child, runs
from tests.factories import make_task, make_type
from tests.mainprocess import a_boot, a_row, nothing_held, now
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


class Child:
    """A process, and the line that stands for what it says."""

    def __init__(self, process):
        self.line, self._process, self.pid = Line(), process, process.pid
        self.line.main_end.setblocking(False)
        self.inqW_fd = self.line.main_end.fileno()
        #: By which Celery knows whose pipes it has taken already.
        self.dead = True

    @property
    def exitcode(self):
        return self._process.poll()

    def dies(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def process():
    with a_child() as process:
        yield process


@pytest.fixture
def row(monkeypatch):
    nothing_held(monkeypatch)
    make_type()
    return a_row()


@pytest.fixture
def hands(row, monkeypatch):
    lease = Lease()
    lease.renew(lease.clock(), 600)
    monkeypatch.setattr(lines, "lease", lease)
    for name, nothing in (("processes", {}), ("on_change", []), ("on_cold_stop", [])):
        monkeypatch.setattr(prefork, name, nothing)
    boot = a_boot(row)
    boot.consumer.pool._pool = SimpleNamespace(_busy_workers=set())
    boot.hands = Hands(boot)
    yield boot.hands
    for end in (boot.hands._wake_read, boot.hands._wake_write):
        os.close(end)


@pytest.fixture
def child(hands, process):
    child = Child(process)
    prefork.processes[child.pid] = child
    turn(hands)
    yield child
    child.line.main_end.close()
    child.line.child_end.close()


def turn(hands):
    """Look at everything once, also at what is looked at seldom."""
    hands._deaths_at = 0.0
    hands._turn(wait=False)


def given(hands, row, usual=0.001, *, big=False):
    task = make_task(Status.PENDING)
    offer = Offer(row.pk, ["default"], 1, 1.0)
    offer.taken[task.pk] = Taken(usual)
    cards = promote_and_claim([task.pk], site="s", worker_id=row.pk)
    if big:
        cards[0].values = ["x" * 9_000_000]
    hands.take(cards, offer)
    return task


def busy(hands):
    return hands.boot.consumer.pool._pool._busy_workers


def lost(hands, task):
    """Let the keeper do what it was asked to; return whether the task was lost."""
    hands.boot.keeper._run_errands()
    return now(task).lost_count == 1


# While something else holds its line open


def test_a_child_that_has_exited_is_dead_whoever_holds_its_line_open_p1(hands, row, child):
    task, behind = given(hands, row), given(hands, row)
    child.line.page.begin(1)
    held = hands.find((task.pk, 1))
    turn(hands)
    assert not held.body_is_gone()

    child.dies()
    turn(hands)

    assert held.body_is_gone()
    assert lost(hands, task)
    assert [one.key for one in hands.deck.waiting] == [(behind.pk, 1)]
    assert (hands._hands, prefork.processes) == ({}, {})


def test_what_it_said_before_counts_p1(hands, row, child):
    task = given(hands, row)
    child.line.page.begin(1)
    child.line.answer(Answer(1, lines.RETURNED, 1.0, 2.0, (1.0, 55, "said", 7, None)))

    child.dies()
    hands._deaths_at = 0.0
    hands._bury_the_dead()  # since its last words were listened for
    hands.journal._write(DatabaseWork())

    assert not lost(hands, task)
    assert now(task).status == Status.FINISHED


def test_no_signal_is_sent_to_the_number_of_who_has_exited_p6(
    hands, row, child, monkeypatch
):
    task = given(hands, row)
    child.line.page.begin(1)
    child.dies()
    sent = []
    monkeypatch.setattr("os.kill", lambda *signaled: sent.append(signaled))

    assert not hands.kill((task.pk, 1), signal.SIGTERM)
    hands.find((task.pk, 1)).hand.kill_at = 0.0
    hands.running.look(hands._hands.values())

    assert sent == []


def test_its_number_at_celerys_is_free_when_it_is_dead(hands, row, child):
    given(hands, row, usual=None)
    assert busy(hands) == {child.inqW_fd}

    child.dies()
    turn(hands)

    assert busy(hands) == set()


def test_the_next_child_with_its_number_is_neither_marked_nor_unmarked_for_it(
    hands, row, child
):
    given(hands, row, usual=None)
    hand = hands._hands[child.line.main_end.fileno()]
    child.dies()
    a_pool(busy(hands))._process_cleanup_queues(child)
    assert busy(hands) == set()

    hand.mark()
    assert busy(hands) == set()

    busy(hands).add(child.inqW_fd)  # Celery gives something to the next one
    turn(hands)
    assert busy(hands) == {child.inqW_fd}
    assert hands._hands == {}


def a_pool(busy):
    """Return a pool that was never started."""
    pool = prefork.Pool.__new__(prefork.Pool)
    pool._busy_workers = busy
    return pool


def test_who_is_known_to_be_dead_is_given_nothing(hands, row, child):
    child.line.child_is_dead = True

    assert hands.offer() is None


def test_celerys_word_that_a_child_is_dead_wakes_the_hands(child, monkeypatch):
    woken = []
    monkeypatch.setattr(prefork, "on_change", [lambda: woken.append(1)])

    a_pool(set())._process_cleanup_queues(child)

    assert woken == [1]
    assert child.line.child_is_dead


def test_a_rest_that_a_dead_child_did_not_take_is_for_others_p1(hands, row, child):
    task = given(hands, row, big=True)
    assert child.line.unsent

    child.dies()
    turn(hands)

    assert [one.key for one in hands.deck.waiting] == [(task.pk, 1)]


def test_a_child_that_does_not_read_keeps_nobody_waiting_and_has_all_of_it_later(
    hands, row, child
):
    task = given(hands, row, big=True)
    given(hands, row)
    turn(hands)
    assert child.line.unsent
    assert len(hands.deck.waiting) == 1

    found = []
    reader = threading.Thread(target=lambda: found.extend(child.line.jobs()))
    reader.start()
    eventually(lambda: turn(hands) or not child.line.unsent)
    reader.join()

    assert [job.task_id for job in found] == [task.pk]
    assert hands._poll.poll(0) == []
    turn(hands)
    assert len(child.line.jobs()) == 1


def test_who_is_given_a_line_full_is_given_no_more(hands, row, child, monkeypatch):
    monkeypatch.setattr(child.line, "room", 900)

    for _ in range(2):
        given(hands, row)

    assert len(hands.deck.waiting) == 1


# While it lives, and its line is closed


def test_a_body_that_has_closed_its_line_is_ended_before_it_is_lost_p4(
    hands, row, child, process
):
    task, behind = given(hands, row), given(hands, row)
    child.line.page.begin(1)

    child.line.child_end.close()
    turn(hands)
    assert not lost(hands, task)
    assert not hands.find((task.pk, 1)).body_is_gone()
    assert [one.key for one in hands.deck.waiting] == [(behind.pk, 1)]
    assert child.line.page.taken_back == 2

    hands.find((task.pk, 1)).hand.kill_at = 0.0
    turn(hands)
    assert process.wait(10) == -signal.SIGKILL
    turn(hands)

    assert lost(hands, task)
    assert "SIGKILL" in TaskEvent.objects.get(task=task).detail
    eventually(lambda: not runs(process.grandchild))


def test_who_closes_its_line_is_given_time_to_exit_by_itself(hands, row, child, process):
    """A process that dies has closed its files before it can be waited for."""
    task = given(hands, row)
    child.line.page.begin(1)

    child.line.child_end.close()
    turn(hands)

    assert hands.find((task.pk, 1)).hand.kill_at is not None
    assert hands._pause() == LOOK
    assert process.poll() is None


def test_who_closes_its_line_with_nothing_begun_is_let_alone(hands, row, child, process):
    task = given(hands, row)

    child.line.child_end.close()
    turn(hands)

    assert [one.key for one in hands.deck.waiting] == [(task.pk, 1)]
    assert (hands._hands, process.poll()) == ({}, None)


def test_a_child_whose_exit_somebody_else_has_seen_is_dead(hands, row, child, process):
    task = given(hands, row)
    child.line.page.begin(1)
    process.kill()
    os.waitpid(process.pid, 0)
    child._process = SimpleNamespace(poll=lambda: None)

    child.line.child_end.close()
    turn(hands)

    assert hands._hands == {}
    assert hands.find((task.pk, 1)) is None


# In what a body has forked


def test_a_copy_of_a_child_says_and_hears_nothing_and_keeps_no_line_open(monkeypatch):
    line = Line()
    line.main_end.setblocking(False)
    line.page.begin(3)
    monkeypatch.setattr(prefork, "_served", [line])

    prefork._part_in_copy()
    line.page.end()
    line.page.begin(4)
    line.answer(Answer(4, lines.DONE))

    assert line.parted
    assert (line.answers(), line.closed) == ([], True)
    line.main_end.close()


def test_what_a_copy_says_is_on_no_page_and_what_it_is_told_is_read():
    page = Page()
    page.begin(3)
    shared = memoryview(page._memory).cast("q")

    page.speak_no_more()
    page.end()
    shared[7] = 3

    assert (page.current, shared[0], page.written) == (0, 3, 3)


class Gone(BaseException):
    """The process has ended."""


@pytest.fixture
def ends(monkeypatch):
    """Take the end of a process for an exception."""

    def gone(code):
        raise Gone(code)

    monkeypatch.setattr("os._exit", gone)


def test_a_copy_that_comes_back_from_its_body_begins_nothing_more_p3(ends, monkeypatch):
    monkeypatch.setattr(interrupts, "_meant", None)
    servant, line = Servant.__new__(Servant), Line()
    servant.line, servant.bodies, servant._other_job_waits = line, 0, lambda: False
    monkeypatch.setattr(lines.lease, "holds", lambda: True)
    monkeypatch.setattr(Servant, "_claim_and_run", lambda *_: line.part())

    with pytest.raises(Gone):
        servant._do(Job(1, 7, 1))

    assert line.page.current == 0
    line.main_end.close()


def test_a_copy_that_comes_back_from_a_body_of_celerys_takes_no_other_p3(ends):
    child = prefork.Child.__new__(prefork.Child)
    child._servant = SimpleNamespace(line=SimpleNamespace(parted=True))

    with pytest.raises(Gone):
        child._wait(lambda: None)
