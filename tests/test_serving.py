"""``serving.py``: which jobs of its line a child begins, and what it answers."""

from __future__ import annotations

import os
import signal
import threading
from types import SimpleNamespace

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError

from taskcontrol import interrupts, lifecycle, lines, memory, serving
from taskcontrol.arguments import encode
from taskcontrol.lines import Job, Lease, Line
from taskcontrol.models import Incident, TaskLog
from taskcontrol.serving import Servant
from taskcontrol.status import Status
from tests.byhand import promoted
from tests.factories import make_task, make_type
from tests.mainprocess import a_row, nothing_held, now
from tests.waiting import within

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]

ADD = "tests.tasks.add"
#: Bodies that the tests make up: called by name through ``made_up``.
made: dict[str, object] = {}


def made_up():
    """The body of the test."""
    return made["body"]()


@pytest.fixture(autouse=True)
def row(monkeypatch):
    nothing_held(monkeypatch)
    return a_row()


@pytest.fixture(autouse=True)
def lease(monkeypatch):
    lease = Lease()
    lease.renew(lease.clock(), 600)
    monkeypatch.setattr(serving, "lease", lease)
    return lease


@pytest.fixture
def line():
    line = Line()
    line.main_end.setblocking(False)
    yield line
    line.main_end.close()
    line.child_end.close()


@pytest.fixture
def celerys():
    """Whether a job of Celery's waits."""
    return SimpleNamespace(wait=False)


@pytest.fixture
def servant(line, celerys, monkeypatch):
    before = signal.getsignal(interrupts.TIMEOUT)
    monkeypatch.setattr(interrupts, "_meant", None)
    yield Servant(line, lambda: celerys.wait)
    signal.signal(interrupts.TIMEOUT, before)


class Stage:
    """A task that was promoted for this child, and its job."""

    def __init__(self, row, number, *, by_itself=False, **columns):
        columns = {"method": "tests.test_serving.made_up", **columns}
        make_type(columns["method"], declared={}) if number == 1 else None
        self.task = make_task(Status.PENDING, **columns)
        (card,) = promoted(row, self.task)
        values = None if by_itself else card.values
        self.job = Job(number, card.pk, card.attempt, values)

    def now(self):
        return now(self.task)


def does(body):
    made["body"] = body
    return body


def serves(servant, *stages, most=None):
    """Give jobs, and let the child do them; return what it answers."""
    assert servant.line.give([stage.job for stage in stages])
    with within(60):
        servant.serve(most)
    return servant.line.answers()


def what_of(answers):
    return [(one.number, one.what) for one in answers]


# What begins


def test_a_body_that_returns_is_answered_with_all_that_its_end_tells(servant, row):
    stage = Stage(row, 1, method=ADD, arguments=encode({"left": 1, "right": 2}))

    (answer,) = serves(servant, stage)

    assert (answer.number, answer.what) == (1, lines.RETURNED)
    time_taken, memory, log, result, progress = answer.told
    assert (result, log, progress) == (3, "", None)
    assert 0 <= time_taken <= answer.ended - answer.began
    assert memory >= 0
    assert (stage.now().status, stage.now().rev) == (Status.QUEUED, 1)
    assert servant.bodies == 1


def test_jobs_are_done_in_their_order_and_no_body_runs_after_them(servant, row, line):
    ran = []
    does(lambda: ran.append(line.page.current))
    stages = [Stage(row, number) for number in (1, 2, 3)]

    answers = serves(servant, *stages)

    assert ran == [one.number for one in answers] == [1, 2, 3]
    assert (line.page.current, line.page.begun) == (0, 3)


def test_what_was_taken_back_does_not_begin_p3(servant, row, line):
    ran = []
    does(lambda: ran.append(1))
    line.page.taken_back = 1

    answers = serves(servant, Stage(row, 1), Stage(row, 2))

    assert what_of(answers) == [(1, lines.UNBEGUN), (2, lines.RETURNED)]
    assert ran == [1]


def test_who_begins_says_so_before_it_looks_whether_it_may_p3(servant, row, line):
    """Or else what is taken back at this moment would begin, and be given to another too."""
    does(lambda: None)
    seen = []

    class Looked(type(line.page)):
        @property
        def taken_back(self):
            seen.append((self.current, self.begun))
            return 0

    line.page.__class__ = Looked

    serves(servant, Stage(row, 1))

    assert seen == [(1, 1)]


def test_nothing_begins_after_the_lease_p3(servant, row, lease):
    does(lambda: pytest.fail("it ran"))
    lease.end()

    assert what_of(serves(servant, Stage(row, 1))) == [(1, lines.UNBEGUN)]


def test_a_lease_that_ends_stops_the_jobs_behind_p3(servant, row, lease):
    does(lease.end)

    answers = serves(servant, Stage(row, 1), Stage(row, 2))

    assert what_of(answers) == [(1, lines.RETURNED), (2, lines.UNBEGUN)]


def test_nothing_begins_in_a_process_without_memory(servant, row, monkeypatch):
    does(lambda: monkeypatch.setattr(memory, "is_left", lambda: False))

    answers = serves(servant, Stage(row, 1), Stage(row, 2))

    assert what_of(answers) == [(1, lines.RETURNED), (2, lines.UNBEGUN)]


def test_a_job_of_celerys_is_not_kept_waiting(servant, row, celerys):
    does(lambda: setattr(celerys, "wait", True))

    answers = serves(servant, Stage(row, 1), Stage(row, 2))

    assert what_of(answers) == [(1, lines.RETURNED), (2, lines.UNBEGUN)]


def test_no_more_bodies_run_than_a_child_is_to_run(servant, row):
    does(lambda: None)

    answers = serves(servant, Stage(row, 1), Stage(row, 2), most=1)

    assert what_of(answers) == [(1, lines.RETURNED), (2, lines.UNBEGUN)]
    assert servant.bodies == 1


def test_a_line_that_was_closed_ends_the_service(servant, line):
    line.main_end.close()

    servant.serve(None)

    assert servant.over


# Halts


def test_nothing_begins_in_a_process_that_may_be_about_to_end_p1(
    servant, row, line, monkeypatch
):
    monkeypatch.setattr(serving, "HALTS_FOR", 0.0)
    does(lambda: pytest.fail("it ran"))
    line.page.halt = 7

    assert what_of(serves(servant, Stage(row, 1))) == [(1, lines.UNBEGUN)]


def test_a_halt_is_waited_for(servant, row, line):
    does(lambda: None)
    line.page.halt = 7

    def lifts():
        while not line.page.current:
            pass
        line.page.halt = 0

    thread = threading.Thread(target=lifts)
    thread.start()
    answers = serves(servant, Stage(row, 1))
    thread.join()

    assert what_of(answers) == [(1, lines.RETURNED)]


def test_a_halt_for_what_runs_itself_is_not_waited_for(servant, row, line, monkeypatch):
    monkeypatch.setattr(serving, "HALTS_FOR", 0.0)
    does(lambda: None)
    line.page.halt = 1

    assert what_of(serves(servant, Stage(row, 1))) == [(1, lines.RETURNED)]


# What a child claims and writes itself


def test_what_has_more_to_tell_is_claimed_and_ended_by_its_child(servant, row):
    does(lambda: "told")
    stage = Stage(row, 1, by_itself=True)

    answers = serves(servant, stage)

    assert what_of(answers) == [(1, lines.DONE)]
    assert (stage.now().status, stage.now().result) == (Status.FINISHED, "told")
    assert stage.now().worker_id == row.pk


def test_what_is_not_to_be_run_is_refused_p6(servant, row):
    does(lambda: pytest.fail("it ran"))
    stage = Stage(row, 1, by_itself=True)
    lifecycle.cancel(stage.task)

    assert what_of(serves(servant, stage)) == [(1, lines.REFUSED)]


def test_a_claim_whose_answer_was_lost_is_asked_for_again_p1(servant, row, monkeypatch):
    does(lambda: "told")
    stage = Stage(row, 1, by_itself=True)
    real, asked = lifecycle.claim, []

    def cut_off(*given, **more):
        asked.append(given)
        won = real(*given, **more)
        if len(asked) == 1:
            raise OperationalError("cut off")
        return won

    monkeypatch.setattr(lifecycle, "claim", cut_off)

    assert what_of(serves(servant, stage)) == [(1, lines.DONE)]
    assert stage.now().status == Status.FINISHED


def test_a_claim_that_cannot_be_made_is_answered_all_the_same(servant, row, monkeypatch):
    stage = Stage(row, 1, by_itself=True)

    def is_away(*_given, **_more):
        raise OperationalError("away")

    monkeypatch.setattr(lifecycle, "claim", is_away)

    assert what_of(serves(servant, stage)) == [(1, lines.REFUSED)]


# Ends that are not simply that a body returned


def fails():
    raise ValueError("in vain")


def test_the_end_of_a_body_that_fails_waits_for_the_word_that_it_began(servant, row, line):
    does(fails)
    stage = Stage(row, 1)

    def writes():
        """The main process does, when it is asked."""
        lifecycle.begin(
            stage.task.pk, 1, worker_id=row.pk, pid=os.getpid(), since=line.page.since
        )
        line.page.written = 1

    heard = line.answer
    said = []

    def answer(one):
        said.append(one)
        heard(one)
        if one.what == lines.ASKS:
            writes()

    line.answer = answer

    serves(servant, stage)

    assert what_of(said) == [(1, lines.ASKS), (1, lines.DONE)]
    after = stage.now()
    assert (after.status, after.error_message.splitlines()[-1]) == (
        Status.FAILED,
        "ValueError: in vain",
    )


def test_the_end_of_a_body_that_nobody_wants_changes_nothing_and_frees_its_place_p4_p6(
    servant, row, line
):
    does(fails)
    stage = Stage(row, 1)
    lifecycle.cancel(stage.task)
    line.page.unwanted = 1

    answers = serves(servant, stage)

    assert what_of(answers) == [(1, lines.ASKS), (1, lines.DONE)]
    assert (stage.now().status, stage.now().occupies) == (Status.CANCELED, False)


def test_the_end_of_a_body_whose_begin_cannot_be_written_is_for_the_main_process_p1(
    servant, row, line, monkeypatch
):
    monkeypatch.setattr(serving, "WORD_TAKES", 0.0)
    does(fails)
    stage = Stage(row, 1)

    answers = serves(servant, stage)

    assert what_of(answers) == [(1, lines.ASKS), (1, lines.UNWRITTEN)]
    assert stage.now().status == Status.QUEUED
    assert not Incident.objects.exists()


def test_what_was_answered_before_is_told_before_a_body_that_asks(servant, row, line):
    bodies = iter([lambda: 1, fails])
    does(lambda: next(bodies)())  # noqa: PLW0108 - another each time
    line.page.unwanted = 2
    first, second = Stage(row, 1), Stage(row, 2)

    answers = serves(servant, first, second)

    assert what_of(answers) == [(1, lines.RETURNED), (2, lines.ASKS), (2, lines.DONE)]


# Signals


def strikes(aim, line):
    """A body into which a time limit strikes that is meant for the job ``aim``."""

    def body():
        line.page.aim = aim
        signal.raise_signal(interrupts.TIMEOUT)
        return "went on"

    return does(body)


def test_a_signal_for_another_body_harms_none_p6(servant, row, line):
    strikes(7, line)

    (answer,) = serves(servant, Stage(row, 1))

    assert answer.told[3] == "went on"


def test_a_signal_reaches_the_body_that_it_is_meant_for_p6(servant, row, line):
    strikes(1, line)
    line.page.unwanted = 1

    assert what_of(serves(servant, Stage(row, 1))) == [(1, lines.ASKS), (1, lines.DONE)]


def test_a_signal_between_two_bodies_is_late(servant, row, line):
    does(lambda: None)
    serves(servant, Stage(row, 1))
    line.page.aim = 1

    signal.raise_signal(interrupts.TIMEOUT)
    servant.rest()
    signal.raise_signal(interrupts.TIMEOUT)


def test_a_job_of_celerys_sees_to_its_signals_itself(servant, row):
    does(lambda: None)
    serves(servant, Stage(row, 1))

    servant.make_way()

    with pytest.raises(SoftTimeLimitExceeded):
        signal.raise_signal(interrupts.TIMEOUT)


def test_a_process_that_was_told_to_end_goes_after_its_answer(servant, row, monkeypatch):
    does(lambda: "told")
    monkeypatch.setattr(interrupts, "process_must_go", lambda: True)
    stage = Stage(row, 1)
    servant.line.give([stage.job])

    with pytest.raises(SystemExit):
        servant.serve(None)

    assert what_of(servant.line.answers()) == [(1, lines.RETURNED)]
    assert TaskLog.objects.filter(status=Status.QUEUED).exists()
