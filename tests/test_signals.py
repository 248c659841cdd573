"""Each receiver alone moves the row, a second time it moves nothing, and it never harms."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import signals as celerys
from celery.worker.components import Pool
from django.db import DatabaseError, DataError, OperationalError, connection

from taskcontrol import (
    broker,
    claims,
    ends,
    execution,
    held,
    interrupts,
    lifecycle,
    signals,
    tasks,
)
from taskcontrol.models import Incident, TaskAttempt, TaskLog, Worker
from taskcontrol.status import Status
from tests.factories import make_task, make_worker, seconds_ago
from tests.waiting import beside

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]


class Sender:
    """The Celery task that sends a signal."""

    def __init__(self, request: Any) -> None:
        self.name, self.request = broker.RUN, request


class Stage:
    """A task of ours at the point where Celery sends a signal of it."""

    def __init__(self, status: Status, **columns: Any) -> None:
        self.row = make_task(status, attempt=2, **columns)
        TaskLog.objects.filter(pk=self.row.pk).update(celery_task_id="0a1b2c3d-9-2")
        self.request = SimpleNamespace(id="0a1b2c3d-9-2", args=(self.row.pk, 2))
        self.sender = Sender(self.request)
        if status is not Status.QUEUED:
            setattr(self.request, claims._CLAIM, self.row)

    def now(self) -> TaskLog:
        return TaskLog.objects.get(pk=self.row.pk)


def prerun(stage):
    celerys.task_prerun.send(
        sender=stage.sender,
        task_id=stage.request.id,
        task=stage.sender,
        args=stage.request.args,
        kwargs={},
    )


def success(stage):
    celerys.task_success.send(sender=stage.sender, result=None)


def failure(stage, exception=None):
    celerys.task_failure.send(
        sender=stage.sender,
        task_id=stage.request.id,
        exception=exception or ValueError("late"),
        args=stage.request.args,
        kwargs={},
        traceback=None,
        einfo=None,
    )


def retry(stage):
    celerys.task_retry.send(
        sender=stage.sender, request=stage.request, reason="shutdown", einfo=None
    )


def postrun(stage):
    celerys.task_postrun.send(
        sender=stage.sender,
        task_id=stage.request.id,
        task=stage.sender,
        args=stage.request.args,
        kwargs={},
        retval=None,
        state="SUCCESS",
    )


def internal_error(stage):
    celerys.task_internal_error.send(
        sender=stage.sender,
        task_id=stage.request.id,
        args=stage.request.args,
        kwargs={},
        request={"id": stage.request.id},
        exception=RuntimeError("celery's own"),
        traceback=None,
        einfo=None,
    )


def revoked(stage):
    celerys.task_revoked.send(
        sender=stage.sender,
        request=stage.request,
        terminated=False,
        signum=None,
        expired=False,
    )


def unknown(stage):
    celerys.task_unknown.send(
        sender=None, message=None, exc=KeyError("x"), name=broker.RUN, id=stage.request.id
    )


def rejected(stage):
    message = SimpleNamespace(headers={"id": stage.request.id})
    celerys.task_rejected.send(sender=None, message=message, exc=ValueError("spoilt"))


#: What ARCHITECTURE.md says: signal, from, to, what the row tells.
TABLE = {
    "task_prerun": (prerun, Status.QUEUED, Status.STARTED, {}),
    "task_success": (success, Status.STARTED, Status.FINISHED, {}),
    "task_failure": (failure, Status.STARTED, Status.FAILED, {"error": "ValueError: late"}),
    "task_retry": (retry, Status.STARTED, Status.PENDING, {"lost_count": 0}),
    "task_postrun": (
        postrun,
        Status.STARTED,
        Status.FAILED,
        {"error": "ended without a word"},
    ),
    "task_internal_error": (
        internal_error,
        Status.STARTED,
        Status.FAILED,
        {"error": "RuntimeError: celery's own"},
    ),
    "task_revoked": (
        revoked,
        Status.QUEUED,
        Status.CANCELED,
        {"reason": "revoked through Celery"},
    ),
    "task_unknown": (unknown, Status.QUEUED, Status.PENDING, {"event": "not have"}),
    "task_rejected": (rejected, Status.QUEUED, Status.PENDING, {"event": "spoilt"}),
}
rows = pytest.mark.parametrize("name", TABLE)


def connected():
    """Return the signals of Celery that one of our receivers hears."""
    return {
        name
        for name in celerys.__all__
        for _, receiver in getattr(celerys, name).receivers or ()
        if getattr(receiver, "__module__", "") == signals.__name__
    }


def test_every_signal_of_a_task_that_we_hear_stands_in_the_table():
    heard = {name for name in connected() if name.startswith("task_")}

    assert heard == set(TABLE)


def test_the_workers_life_is_heard():
    assert {name for name in connected() if name.startswith("worker_")} >= {
        "worker_init",
        "worker_process_init",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, ""),
        ("6,1", "--autoscale=6,1 adds no child for tasks of taskcontrol"),
        ("6", "Start this worker with --concurrency=6 instead."),
    ],
)
def test_a_worker_says_that_autoscale_adds_no_child_for_our_tasks(
    given, told, monkeypatch, caplog
):
    """What Celery makes of the option is asked of Celery itself."""
    controller = SimpleNamespace(concurrency=1, optimization=None, steps=[])
    Pool(controller, autoscale=given)
    monkeypatch.setattr(signals, "_boot", None)
    monkeypatch.setattr(signals, "Boot", lambda _: SimpleNamespace(start=lambda: None))

    signals.on_worker_ready(SimpleNamespace(controller=controller))

    assert bool(caplog.messages) == bool(told)
    assert told in caplog.text


@rows
def test_each_receiver_alone_moves_the_row(name):
    send, old, new, told = TABLE[name]
    stage = Stage(old)

    send(stage)

    row = stage.now()
    assert (row.status, row.rev) == (new, 1)
    assert told.get("error", "") in row.error_message
    assert told.get("reason", "") in row.ended_reason
    assert row.lost_count == 0
    if "event" in told:
        assert told["event"] in row.events.get().detail


@rows
def test_each_receiver_moves_a_row_once(name):
    send, old, *_ = TABLE[name]
    stage = Stage(old)
    send(stage)
    first = TaskLog.objects.values().get()
    attempts = TaskAttempt.objects.count()

    for _ in range(3):
        send(stage)

    assert TaskLog.objects.values().get() == first
    assert TaskAttempt.objects.count() == attempts


@rows
@pytest.mark.parametrize("status", sorted(Status))
def test_from_any_other_status_a_receiver_moves_nothing(name, status):
    send, old, *_ = TABLE[name]
    if status == old:
        pytest.skip("from here it does")
    stage = Stage(Status(status))
    before = TaskLog.objects.values().get()

    send(stage)

    assert TaskLog.objects.values().get() == before


def test_an_error_of_celerys_own_before_the_claim_is_no_late_end():
    internal_error(Stage(Status.QUEUED))

    assert not Incident.objects.exists()


def test_a_body_that_celery_took_back_keeps_its_place_until_it_is_gone_p4():
    stage = Stage(Status.STARTED)

    retry(stage)

    assert (stage.now().status, stage.now().occupies) == (Status.PENDING, True)


def test_what_must_not_run_twice_and_was_taken_back_fails_and_keeps_its_place_p4():
    stage = Stage(Status.STARTED)
    TaskLog.objects.update(options={"on_lost": "fail"})

    retry(stage)

    assert (stage.now().status, stage.now().occupies) == (Status.FAILED, True)
    assert "its worker was shut down" in stage.now().error_message


@rows
def test_the_signals_of_other_tasks_are_not_ours(name):
    send, old, *_ = TABLE[name]
    if name == "task_unknown":
        celerys.task_unknown.send(sender=None, name="others.task", id="0a1b2c3d-9-2")
    stage = Stage(old)
    before = TaskLog.objects.values().get()
    stage.sender.name = "others.task"
    if name in {"task_unknown", "task_rejected"}:
        stage.request.id = "others"

    send(stage)

    assert TaskLog.objects.values().get() == before


@rows
def test_a_message_of_an_older_attempt_moves_nothing_p3(name):
    send, old, *_ = TABLE[name]
    stage = Stage(old)
    if hasattr(stage.request, claims._CLAIM):
        stage.row.attempt = 1
    stage.request.args = (stage.row.pk, 1)
    stage.request.id = "0a1b2c3d-9-1"
    before = TaskLog.objects.values().get()

    send(stage)

    assert TaskLog.objects.values().get() == before


# The claim between prerun and body


def test_the_body_takes_over_the_claim_of_the_signal():
    stage = Stage(Status.QUEUED)
    prerun(stage)

    with claims.of(stage.request, *stage.request.args) as row:
        assert row.pk == stage.row.pk

    assert stage.now().rev == 1
    assert claims.unfinished(stage.request) is None


def test_the_body_claims_itself_when_the_signal_did_not_come():
    stage = Stage(Status.QUEUED)

    with claims.of(stage.request, *stage.request.args) as row:
        assert row.attempt == 2

    assert stage.now().status == Status.STARTED


def test_the_body_does_not_begin_when_the_claim_was_lost():
    stage = Stage(Status.CANCELED)
    prerun(stage)

    with claims.of(stage.request, *stage.request.args) as row:
        assert row is None


def test_a_receiver_that_failed_leaves_the_claim_to_the_body(monkeypatch):
    stage = Stage(Status.QUEUED)

    def broken(*_args, **_options):
        raise RuntimeError("database")

    with monkeypatch.context() as patched:
        patched.setattr(execution, "claim", broken)
        prerun(stage)

    with claims.of(stage.request, *stage.request.args) as row:
        assert row is not None


@pytest.fixture
def worker(monkeypatch):
    """A worker to which this process belongs."""
    here = execution.Here()
    monkeypatch.setattr(execution, "here", here)
    row = make_worker()
    here.worker_id = row.pk
    return row


def unheard(stage, monkeypatch, *, committed=True, error=OperationalError):
    """Claim as ``task_prerun`` does; the answer is lost on its way."""
    real = lifecycle.claim

    def cut_off(*args, **values):
        if committed:
            assert real(*args, **values) is not None
        raise error("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(lifecycle, "claim", cut_off)
        prerun(stage)


@pytest.mark.parametrize("error", [OperationalError, AttributeError])
def test_a_claim_whose_answer_was_lost_is_found_by_the_body_p1(worker, monkeypatch, error):
    stage = Stage(Status.QUEUED)
    unheard(stage, monkeypatch, error=error)
    assert connection.connection is None

    with claims.of(stage.request, *stage.request.args) as row:
        assert (row.pk, row.attempt, row.pid) == (stage.row.pk, 2, os.getpid())

    assert (stage.now().status, stage.now().rev) == (Status.STARTED, 1)


def test_another_delivery_finds_no_claim_of_this_one_p3(worker, monkeypatch):
    """The body of the first may have run to an end that nobody could write."""
    stage = Stage(Status.QUEUED)
    prerun(stage)
    copy = SimpleNamespace(id=stage.request.id, args=stage.request.args)

    with claims.of(copy, *copy.args) as row:
        assert row is None


@pytest.mark.parametrize(
    "theirs",
    [
        {"pid": 1},
        {"worker": None},
        {"attempt": 3},
        {"status": Status.CANCELED, "ended_at": seconds_ago(0)},
    ],
    ids=str,
)
def test_what_somebody_else_has_claimed_since_is_not_taken_p3(worker, monkeypatch, theirs):
    stage = Stage(Status.QUEUED)
    unheard(stage, monkeypatch)
    TaskLog.objects.filter(pk=stage.row.pk).update(**theirs)

    with claims.of(stage.request, *stage.request.args) as row:
        assert row is None


@pytest.mark.parametrize("gone", ["left_at", "lost_at"])
def test_a_claim_of_a_worker_that_counts_as_gone_is_not_taken(worker, monkeypatch, gone):
    stage = Stage(Status.QUEUED)
    unheard(stage, monkeypatch)
    Worker.objects.update(**{gone: seconds_ago(1)})

    with claims.of(stage.request, *stage.request.args) as row:
        assert row is None


def test_threads_that_share_a_process_take_no_claim_of_each_other_p3(worker, monkeypatch):
    """The first one's was never committed; a copy of the message won in another thread."""
    stage = Stage(Status.QUEUED)
    copy = SimpleNamespace(id=stage.request.id, args=stage.request.args)
    prerun(SimpleNamespace(sender=Sender(copy), request=copy))

    def again():
        unheard(stage, monkeypatch, committed=False)
        with claims.of(stage.request, *stage.request.args) as row:
            return row

    assert beside(again) is None


def test_an_end_that_the_body_could_not_write_is_written_by_the_next_signal():
    stage = Stage(Status.QUEUED)

    def body():
        with claims.of(stage.request, *stage.request.args):
            raise RuntimeError("no end written")

    with pytest.raises(RuntimeError):
        body()
    failure(stage)
    postrun(stage)

    row = stage.now()
    assert (row.status, row.rev) == (Status.FAILED, 2)
    assert "ValueError: late" in row.error_message


# An end that a body came to while the database was away


@pytest.fixture
def runs(monkeypatch):
    """Run a body in Celery's task and return its row once all signals were sent.

    ``refusals`` are what the database answers to the first ends.
    """
    monkeypatch.setattr(ends, "END_PAUSES", ())

    def refuse(name, left):
        real = getattr(lifecycle, name)

        def write(*args, **values):
            if left:
                raise left.pop(0)
            return real(*args, **values)

        monkeypatch.setattr(lifecycle, name, write)

    def run(method, refusals, **given):
        left = list(refusals)
        refuse("finish", left)
        refuse("fail", left)
        stage = Stage(Status.QUEUED, method=f"tests.tasks.{method}", arguments=given)
        tasks.run.push_request(id=stage.request.id, args=stage.request.args)
        stage.sender, stage.request = tasks.run, tasks.run.request
        try:
            prerun(stage)
            with pytest.raises(DatabaseError) as told:
                tasks.run.run(*stage.request.args)
            failure(stage, told.value)
            postrun(stage)
        finally:
            tasks.run.pop_request()
        return stage.now()

    return run


AWAY = OperationalError("the database is away")


@pytest.mark.parametrize("refusals", [[AWAY], [AWAY] * 2], ids=["short", "long"])
def test_a_body_that_succeeded_in_an_outage_has_finished_after_it_p1(runs, refusals):
    row = runs("add", refusals, left=1, right=2)

    assert (row.status, row.result, row.error_message) == (Status.FINISHED, 3, "")
    assert (row.rev, row.time_taken is not None) == (2, True)


@pytest.mark.parametrize("refusals", [[AWAY], [AWAY] * 2], ids=["short", "long"])
def test_a_body_that_failed_in_an_outage_is_told_by_its_own_error(runs, refusals):
    row = runs("fail", refusals)

    assert row.status == Status.FAILED
    assert "ValueError" in row.error_message
    assert "database is away" not in row.error_message


def test_an_end_that_cannot_be_stored_at_all_gives_way_to_what_is_told(runs):
    row = runs("add", [DataError("too long")] * 2, left=1, right=2)

    assert row.status == Status.FAILED
    assert "DataError: too long" in row.error_message


def test_an_outage_that_outlasts_all_signals_leaves_the_row_to_the_keeper_p1(runs):
    assert runs("add", [AWAY] * 3, left=1, right=2).status == Status.STARTED


# In the main process


class Keeper:
    """Notes what the keeper's thread is asked to do."""

    def __init__(self):
        self.asked = []

    def do(self, errand):
        self.asked.append((errand.func.__name__, errand.args))

    def timed_out(self, *_args): ...

    def process_lost(self, *_args): ...


@pytest.fixture
def keeper(monkeypatch):
    """This process is a worker's main one, with a keeper that only listens."""
    keeper = Keeper()
    boot = SimpleNamespace(keeper=keeper, lookout=keeper, prefork=True, left=[], stopped=[])
    boot.leave = lambda: boot.left.append(1)
    boot.stop = lambda: boot.stopped.append(1)
    monkeypatch.setattr(signals, "_boot", boot)
    monkeypatch.setattr(interrupts, "in_main_process", lambda: True)
    keeper.boot = boot
    return keeper


@pytest.mark.parametrize(
    ("exception", "errand"),
    [(TimeLimitExceeded(5), "timed_out"), (WorkerLostError("signal 9"), "process_lost")],
)
def test_what_happened_to_a_child_is_left_to_the_keeper(keeper, exception, errand):
    stage = Stage(Status.STARTED)

    for _ in range(2):  # Celery sends it twice at a hard limit
        celerys.task_failure.send(
            sender=stage.sender,
            task_id=stage.request.id,
            exception=exception,
            args=stage.request.args,
            kwargs={},
            traceback=None,
            einfo=None,
        )

    assert [(name, args[:2]) for name, args in keeper.asked] == [
        (errand, (stage.row.pk, 2))
    ] * 2
    assert stage.now().status == Status.STARTED


def test_what_runs_in_this_process_is_known_until_the_last_word(monkeypatch):
    stage = Stage(Status.QUEUED)
    seen = []
    monkeypatch.setattr(held, "_here", {})
    monkeypatch.setattr(
        execution, "claim", lambda *_key, **_again: seen.append(held.attempts())
    )

    prerun(stage)
    assert seen == [[(stage.row.pk, 2)]]
    celerys.task_postrun.send(sender=stage.sender, task=stage.sender)

    assert held.attempts() == []


def test_a_thread_is_vouched_for_no_longer_though_its_last_word_failed_p1(monkeypatch):
    stage = Stage(Status.STARTED)
    monkeypatch.setattr(held, "_here", {})

    def fails(*_end):
        raise RuntimeError("no end written")

    monkeypatch.setattr(ends, "write_end", fails)
    held.begin_here(stage.row.pk, 2)

    postrun(stage)

    assert stage.now().status == Status.STARTED
    assert held.attempts() == []


def test_a_body_in_the_main_process_has_no_child_and_its_thread_writes_the_end(keeper):
    keeper.boot.prefork = False
    stage = Stage(Status.STARTED)

    celerys.task_failure.send(
        sender=stage.sender,
        task_id=stage.request.id,
        exception=ValueError("not written"),
        args=stage.request.args,
    )

    assert keeper.asked == []
    assert stage.now().status == Status.FAILED


@pytest.mark.parametrize(
    "name", ["task_retry", "task_revoked", "task_unknown", "task_rejected"]
)
def test_the_event_loop_never_waits_for_the_database(
    name, keeper, django_assert_num_queries
):
    send, old, *_ = TABLE[name]
    stage = Stage(old)

    with django_assert_num_queries(0):
        send(stage)

    assert len(keeper.asked) == 1


def test_a_worker_that_is_told_to_go_notes_it_and_hands_in_its_row(keeper):
    celerys.worker_shutting_down.send(sender="w", sig="TERM", how="Warm", exitcode=0)
    celerys.worker_shutdown.send(sender="w")

    assert (keeper.boot.left, keeper.boot.stopped) == ([1], [1])


def test_a_terminated_task_is_told_elsewhere():
    stage = Stage(Status.QUEUED)

    celerys.task_revoked.send(
        sender=stage.sender,
        request=stage.request,
        terminated=True,
        signum=15,
        expired=False,
    )

    assert stage.now().status == Status.QUEUED


@pytest.mark.parametrize(
    "headers", [None, {}, {"id": None}, {"id": "\0"}, {"id": 5}], ids=str
)
def test_a_spoilt_message_that_says_nothing_harms_nobody(headers):
    celerys.task_rejected.send(
        sender=None, message=SimpleNamespace(headers=headers), exc=ValueError("spoilt")
    )


def test_a_child_takes_the_cancel_signal(monkeypatch):
    installed = []
    monkeypatch.setattr(interrupts, "install", lambda: installed.append(1))

    celerys.worker_process_init.send(sender=None)

    assert installed == [1]
