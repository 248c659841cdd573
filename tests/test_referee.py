"""The triggers of PostgreSQL: what each refuses, and that the road of a task passes."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.db.models import F

import taskcontrol
from taskcontrol import lifecycle, referee
from taskcontrol.dialect import DatabaseNow
from taskcontrol.doctor.diagnosis import examine
from taskcontrol.exceptions import NoReferee, TableBusy
from taskcontrol.history import archive, record
from taskcontrol.models import TaskEvent, TaskLog
from taskcontrol.status import ACTIVE, MOVES, TERMINAL, Status
from tests import refereeing, tasks
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.waiting import race

only_postgresql = pytest.mark.only_on("postgresql")
pytestmark = [pytest.mark.django_db, pytest.mark.refused]

S = Status
ALL_PAIRS = list(itertools.product(Status, Status))


def write(task: TaskLog, **values: Any) -> None:
    """Write to a row as the program would, under the eyes of the referee."""
    rows = TaskLog.objects.filter(pk=task.pk)
    with refereeing.for_tests_too(), transaction.atomic():
        rows.update(**{"rev": F("rev") + 1, **values})


def refuses(what: str) -> Any:
    return pytest.raises(DatabaseError, match=what)


# Moves

#: What a move writes beside the status.
PLACE = {"occupies": True, "celery_task_id": "m", "queued_at": DatabaseNow()}
CLEARED = {"started_at": None, "ended_at": None, "queued_at": None, "celery_task_id": None}
ENDED = {"ended_at": DatabaseNow()}
MOVES_WITH: dict[Status, dict[str, Any]] = {
    S.PENDING: {**CLEARED, "retry_at": None},
    S.PAUSED: {**CLEARED, "retry_at": None, "ready_lane": None},
    S.QUEUED: {**PLACE, "ready_lane": None},
    S.STARTED: {"started_at": DatabaseNow(), "occupies": True},
    S.FINISHED: {**ENDED, "ready_lane": None, "retry_at": None},
    S.FAILED: {**ENDED, "ready_lane": None, "retry_at": None},
    S.CANCELED: {**ENDED, "ready_lane": None, "retry_at": None},
}


def values_of(old: Status, new: Status) -> dict[str, Any]:
    values: dict[str, Any] = {"status": new, **MOVES_WITH[new]}
    if old is S.PENDING and new is S.QUEUED:
        values["attempt"] = F("attempt") + 1
    elif old in TERMINAL and new is S.PENDING:
        values["retry_count"] = F("retry_count") + 1
    if old is S.QUEUED and new not in ACTIVE:
        values["occupies"] = False
    return values


@only_postgresql
@pytest.mark.parametrize(("old", "new"), [p for p in ALL_PAIRS if p[0] != p[1]])
def test_the_moves_of_the_referee_are_those_of_the_table(old, new):
    due = {"max_retries": 3, "retry_at": seconds_ago(1)} if old is S.FAILED else {}
    at_once = (old, new) == (S.QUEUED, S.FINISHED)
    task = make_task(old, **due, **({"worker": make_worker()} if at_once else {}))
    archive([task.pk])
    if new in MOVES[old]:
        began = {"started_at": DatabaseNow(), "pid": 1} if at_once else {}
        write(task, **values_of(old, new), **began)
        record([task], TaskEvent.Kind.RETRIED)  # Canceled -> Pending is by hand
    else:
        with refuses(f"{old} -> {new} in attempt .*: there is no such move"):
            write(task, **values_of(old, new))


@only_postgresql
@pytest.mark.parametrize("status", Status)
def test_a_task_begins_as_pending_or_paused(status):
    values = {"method": "m", "job_name": "m", "lane": 1}
    row = TaskLog(
        status=status, **values, **MOVES_WITH[status], attempt=int(status == S.QUEUED)
    )
    if status in (S.PENDING, S.PAUSED):
        with refereeing.for_tests_too():
            row.save()
    else:
        with (
            refuses(f"inserted as {status}.*begins as Pending or Paused"),
            refereeing.for_tests_too(),
            transaction.atomic(),
        ):
            row.save()


@only_postgresql
@pytest.mark.parametrize(
    "past",
    [
        {"attempt": 1},
        {"retry_count": 1},
        {"rev": 1},
        {"occupies": True},
        {"celery_task_id": "m"},
        {"queued_at": DatabaseNow()},
        {"started_at": DatabaseNow()},
        {"worker_id": 1},
    ],
    ids=str,
)
def test_a_task_begins_without_a_past(past):
    row = TaskLog(method="m", job_name="m", lane=1, **past)

    with refuses("it begins with a past"), refereeing.for_tests_too(), transaction.atomic():
        row.save()


CASES: dict[str, tuple[Status, dict[str, Any], dict[str, Any], str]] = {
    "rev stands still": (S.PENDING, {}, {"rev": F("rev")}, "rev goes from 0 to 0"),
    "rev jumps": (S.PENDING, {}, {"rev": 7}, "rev goes from 0 to 7"),
    "sent under the old attempt": (
        S.PENDING,
        {"attempt": 1},
        {"status": S.QUEUED, **MOVES_WITH[S.QUEUED]},
        "attempt goes from 1 to 1",
    ),
    "claimed under another attempt": (
        S.QUEUED,
        {},
        {"status": S.STARTED, **MOVES_WITH[S.STARTED], "attempt": 2},
        "attempt goes from 1 to 2",
    ),
    "ended under another attempt": (
        S.STARTED,
        {"attempt": 2},
        {"status": S.FINISHED, **ENDED, "attempt": 1},
        "attempt goes from 2 to 1",
    ),
    "a retry that does not count": (
        S.FAILED,
        {"max_retries": 1, "retry_at": seconds_ago(1)},
        {"status": S.PENDING, **MOVES_WITH[S.PENDING]},
        "retry_count goes from 0 to 0",
    ),
    "a count without a retry": (
        S.STARTED,
        {},
        {"retry_count": 1},
        "retry_count goes from 0",
    ),
    "another key": (S.PENDING, {}, {"id": 10**9}, "what it is, whose"),
    "another method": (S.PENDING, {}, {"method": "other"}, "what it is, whose"),
    "another creator": (S.PENDING, {}, {"created_by": 77}, "what it is, whose"),
    "older": (S.PENDING, {}, {"created_at": seconds_ago(9)}, "what it is, whose"),
    "more retries": (S.PENDING, {}, {"max_retries": 9}, "how often it may be retried"),
    "a place from nowhere": (
        S.PENDING,
        {"ready_lane": None},
        {"occupies": True},
        "it takes a place",
    ),
    "sent while the old body runs": (
        S.PENDING,
        {"occupies": True, "attempt": 1},
        {"status": S.QUEUED, **MOVES_WITH[S.QUEUED], "attempt": 2},
        "the body of an earlier attempt may still run",
    ),
    "canceled, and its place free": (
        S.STARTED,
        {},
        {"status": S.CANCELED, **ENDED, "occupies": False},
        "given up while its body may still run",
    ),
    "retried, and the place of its old body free": (
        S.FAILED,
        {"occupies": True, "max_retries": 1, "retry_at": seconds_ago(1)},
        {**values_of(S.FAILED, S.PENDING), "occupies": False},
        "given up while its body may still run",
    ),
    "sent from no lane": (
        S.PENDING,
        {"ready_lane": None, "run_at": seconds_ago(-86_400), "created_at": seconds_ago(60)},
        {**values_of(S.PENDING, S.QUEUED)},
        "it stands in no lane",
    ),
    "a retry sent from no lane": (
        S.PENDING,
        {"ready_lane": None, "attempt": 1},
        {**values_of(S.PENDING, S.QUEUED)},
        "it stands in no lane",
    ),
    "sent without a message": (
        S.PENDING,
        {},
        {**values_of(S.PENDING, S.QUEUED), "celery_task_id": None},
        "without a message of its own",
    ),
    "sent with an old start": (
        S.PENDING,
        {"started_at": seconds_ago(5)},
        {**values_of(S.PENDING, S.QUEUED)},
        "with an old one's past",
    ),
    "sent with an old worker": (
        S.PENDING,
        {"worker_id": 5},
        {**values_of(S.PENDING, S.QUEUED)},
        "with an old one's past",
    ),
    "claimed by another message": (
        S.QUEUED,
        {},
        {"status": S.STARTED, **MOVES_WITH[S.STARTED], "celery_task_id": "forged"},
        "claimed by another message",
    ),
    "claimed after it expired": (
        S.QUEUED,
        {"expires_at": seconds_ago(1)},
        {"status": S.STARTED, **MOVES_WITH[S.STARTED]},
        "after it has expired",
    ),
    "ended by another worker": (
        S.STARTED,
        {},
        {"status": S.FINISHED, **ENDED, "worker_id": 77},
        "an end changes who ran it",
    ),
    "an automatic retry too many": (
        S.STARTED,
        {"max_retries": 2, "retry_count": 2},
        {"status": S.FAILED, **ENDED, "retry_at": seconds_ago(-86_400)},
        "an automatic retry is due after 2 of 2",
    ),
    "canceled after it had failed for good": (
        S.FAILED,
        {},
        {"status": S.CANCELED},
        "failed for good",
    ),
    "pending with a start": (
        S.FAILED,
        {"max_retries": 1, "retry_at": seconds_ago(1)},
        {**values_of(S.FAILED, S.PENDING), "started_at": F("started_at")},
        "keeps what an earlier attempt wrote",
    ),
    "back in line with its message": (
        S.QUEUED,
        {},
        {**values_of(S.QUEUED, S.PENDING), "celery_task_id": F("celery_task_id")},
        "keeps what an earlier attempt wrote",
    ),
    "another message for the same attempt": (
        S.QUEUED,
        {},
        {"celery_task_id": "forged"},
        "the identity of an attempt changes",
    ),
    "another worker in the middle": (
        S.STARTED,
        {},
        {"worker_id": 77},
        "the identity of an attempt changes",
    ),
    "other arguments in the middle": (
        S.STARTED,
        {},
        {"arguments": {"x": 1}},
        "arguments change while the body runs",
    ),
    "other arguments after the end": (
        S.FINISHED,
        {},
        {"arguments": {"x": 1}},
        "arguments change .* after the end",
    ),
    "another result afterwards": (
        S.FINISHED,
        {"result": 1},
        {"result": 2},
        "an end is final",
    ),
    "another log afterwards": (
        S.FAILED,
        {"debug_log": "x"},
        {"debug_log": "y"},
        "an end is final, and what it told",
    ),
    "another log as the place gets free": (
        S.FAILED,
        {"occupies": True},
        {"debug_log": "y", "occupies": False},
        "an end is final, and what it told",
    ),
    "another error afterwards": (S.FAILED, {}, {"error_message": "x"}, "an end is final"),
    "another end afterwards": (
        S.CANCELED,
        {},
        {"ended_at": DatabaseNow()},
        "an end is final",
    ),
    "a retry that is due later on": (
        S.FAILED,
        {"max_retries": 3},
        {"retry_at": seconds_ago(1)},
        "an end is final",
    ),
}


@only_postgresql
@pytest.mark.parametrize("case", CASES)
def test_a_write_that_breaks_a_rule_is_refused(case):
    status, given, values, why = CASES[case]
    task = make_task(status, **given)
    if status in TERMINAL:
        archive([task.pk])

    with refuses(f"task {task.pk}, {status} -> .* in attempt {task.attempt}: .*{why}"):
        write(task, **values)

    before = task.rev
    task.refresh_from_db()
    assert (task.status, task.rev) == (status, before)


#: Another value for each column that one attempt keeps to its end and beyond.
OTHER: dict[str, Any] = {
    "celery_task_id": "forged",
    "queued_at": seconds_ago(99),
    "started_at": seconds_ago(99),
    "worker_id": 77,
    "pid": 1,
    "error_message": "x",
    "ended_at": seconds_ago(99),
    "ended_reason": "x",
    "canceled_by_id": 77,
    "result": 1,
    "debug_log": "x",
    "time_taken": timedelta(seconds=99),
}
WHO_RUNS_IT = ("celery_task_id", "queued_at", "started_at", "worker_id", "pid")


@only_postgresql
@pytest.mark.parametrize(
    ("status", "column", "why"),
    [
        *((S.QUEUED, name, "identity of an attempt") for name in WHO_RUNS_IT),
        *((S.STARTED, name, "identity of an attempt") for name in WHO_RUNS_IT),
        *((one, name, "an end is final") for name in OTHER for one in TERMINAL),
    ],
)
def test_what_was_written_of_an_attempt_stays(status, column, why):
    task = make_task(status)

    with refuses(why):
        write(task, **{column: OTHER[column]})


@only_postgresql
@pytest.mark.parametrize("to", sorted(TERMINAL))
@pytest.mark.parametrize("column", WHO_RUNS_IT)
def test_an_end_changes_nothing_of_who_ran_it(to, column):
    task = make_task(S.STARTED)

    with refuses("an end changes who ran it"):
        write(task, **{**values_of(S.STARTED, to), column: OTHER[column]})


@only_postgresql
@pytest.mark.parametrize("column", ["celery_task_id", "queued_at"])
def test_a_claim_is_by_the_message_that_was_sent(column):
    task = make_task(S.QUEUED)

    with refuses("claimed by another message"):
        write(task, **{**values_of(S.QUEUED, S.STARTED), column: OTHER[column]})


@only_postgresql
@pytest.mark.parametrize("column", ["celery_task_id", "queued_at", "started_at"])
def test_what_waits_again_has_forgotten_its_attempt(column):
    task = make_task(S.STARTED)
    archive([task.pk])

    with refuses("keeps what an earlier attempt wrote"):
        write(task, **{**values_of(S.STARTED, S.PENDING), column: F(column)})


GIVES_UP_ITS_PLACE = [
    (S.QUEUED, S.PENDING),
    (S.QUEUED, S.CANCELED),
    (S.STARTED, S.PENDING),
    (S.STARTED, S.FINISHED),
    (S.STARTED, S.FAILED),
    *((one, one) for one in Status if one not in ACTIVE),
]


@only_postgresql
@pytest.mark.parametrize(("old", "new"), GIVES_UP_ITS_PLACE)
def test_a_place_is_given_up_when_the_body_is_gone(old, new):
    task = make_task(old, occupies=True)
    archive([task.pk])

    write(task, **{**(values_of(old, new) if old is not new else {}), "occupies": False})

    assert not TaskLog.objects.get(pk=task.pk).occupies


@only_postgresql
def test_a_body_that_goes_on_behind_its_fenced_end_tells_the_rest():
    task = make_task(S.FINISHED, occupies=True)
    rest = {"result": 1, "debug_log": "and so on", "time_taken": timedelta(seconds=5)}

    write(task, **rest, occupies=False)
    with refuses("what it told changes"):
        write(task, result=2)


@only_postgresql
@pytest.mark.parametrize("status", [S.STARTED, S.FAILED])
def test_a_task_runs_again_only_when_its_last_run_is_kept(status):
    due = {"max_retries": 1, "retry_at": seconds_ago(1)} if status is S.FAILED else {}
    task = make_task(status, **due)

    with refuses("nothing is kept of the attempt"):
        write(task, **values_of(status, S.PENDING))


@only_postgresql
@pytest.mark.parametrize(
    ("status", "given"),
    [
        (S.CANCELED, {"max_retries": 3}),
        (S.FAILED, {"max_retries": 3}),
        (S.FAILED, {"max_retries": 3, "retry_at": seconds_ago(-86_400)}),
        (S.FAILED, {"max_retries": 1, "retry_count": 1, "retry_at": seconds_ago(1)}),
    ],
)
def test_ended_is_final_unless_somebody_asked_p7(status, given):
    task = make_task(status, **given)
    archive([task.pk])
    record([task], TaskEvent.Kind.CANCELED)
    events = [
        TaskEvent(task=task, kind="retried", at=seconds_ago(99), attempt=task.attempt)
    ]
    events += [TaskEvent(task=task, kind="retried", attempt=task.attempt + 1)]
    TaskEvent.objects.bulk_create(events)

    def again() -> None:
        write(task, **values_of(status, S.PENDING))

    with refuses("nobody is on record who asked"), transaction.atomic():
        again()
        connection.check_constraints()
    with transaction.atomic():
        again()
        record([task], TaskEvent.Kind.RETRIED)
        connection.check_constraints()


# Limits

LIMITED = "tests.tasks.nothing"


def promote(*waiting: TaskLog) -> list[TaskLog]:
    return lifecycle.promote([task.pk for task in waiting], site="t")


@only_postgresql
def test_more_places_than_the_limit_are_refused_p4():
    make_type(LIMITED, concurrency_limit=2)
    make_task(S.CANCELED, occupies=True, worker=make_worker())
    waiting = [make_task(), make_task()]

    assert promote(waiting[0])
    with refuses(f"3 tasks of {LIMITED} hold places, and its limit is 2"):
        promote(waiting[1])


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_two_who_send_at_once_have_no_more_places_than_the_limit_either_p4():
    """Without the dispatcher's row, which lets one at a time, neither sees what the other sent."""
    make_type(LIMITED, concurrency_limit=1)
    for _ in range(3):
        both = make_task(), make_task()
        sent = threading.Barrier(2)

        def send(task: TaskLog, sent: threading.Barrier = sent) -> int:
            with transaction.atomic():
                promoted = promote(task)
                with suppress(threading.BrokenBarrierError):
                    sent.wait(1)  # who waits for the other one's commit does not come
                return len(promoted)

        answers = race(*[partial(send, task) for task in both])

        assert 1 in answers, answers
        assert sum(isinstance(one, DatabaseError) for one in answers) == 1, answers
        TaskLog.objects.all().delete()


@only_postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("level", "refused"),
    [("READ COMMITTED", 1), ("REPEATABLE READ", 0), ("SERIALIZABLE", 1)],
)
def test_a_transaction_that_sees_only_what_was_there_as_it_began_overlooks_a_limit(
    level, refused
):
    """As ``docs/referee.md`` says: who sees nothing new counts nothing new."""
    make_type(LIMITED, concurrency_limit=1)
    began = threading.Barrier(2)

    def send(task: TaskLog) -> int:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            TaskLog.objects.count()  # here the other two see their last
            began.wait(30)
            return len(promote(task))

    answers = race(*[partial(send, make_task()) for _ in range(2)])

    assert sum(isinstance(one, DatabaseError) for one in answers) == refused, answers


@only_postgresql
def test_a_type_that_nobody_has_confirmed_has_one_place():
    make_type(LIMITED, concurrency_limit=0, declared=None)

    with refuses("hold places, and its limit is 1"):
        promote(make_task(), make_task())


@only_postgresql
def test_a_limit_of_0_is_none():
    make_type(LIMITED, concurrency_limit=0)

    assert len(promote(make_task(), make_task(), make_task())) == 3


@only_postgresql
def test_a_pass_that_began_under_the_old_limit_may_go_by_it():
    one = make_type(LIMITED, concurrency_limit=2)
    one.concurrency_limit = 1
    one.save()

    assert len(promote(make_task(), make_task())) == 2


@only_postgresql
def test_what_runs_beyond_a_lowered_limit_goes_on():
    running = [make_task(S.STARTED, worker=make_worker()) for _ in range(3)]
    make_type(LIMITED, concurrency_limit=1)

    assert lifecycle.finish(running[0].pk, 1)


@only_postgresql
def test_what_runs_at_once_is_under_no_limit():
    make_type(LIMITED, concurrency_limit=1)
    make_task(S.STARTED, worker=make_worker())

    assert taskcontrol.enqueue(tasks.nothing, now=True).status == S.FINISHED


@only_postgresql
def test_what_runs_at_once_takes_no_place_of_the_limit():
    make_type(LIMITED, concurrency_limit=1)
    make_task(S.STARTED, worker=None)

    assert promote(make_task())


@only_postgresql
def test_nothing_is_sent_while_the_dispatcher_is_suspended():
    taskcontrol.toggle_dispatcher(enable=False)

    with refuses("the dispatcher is suspended"):
        promote(make_task())


# Deleting


@only_postgresql
@pytest.mark.parametrize(
    ("status", "given"),
    [
        *((one, {}) for one in Status if one not in TERMINAL),
        (S.FAILED, {"retry_at": seconds_ago(-86_400), "max_retries": 1}),
        (S.CANCELED, {"occupies": True}),
    ],
)
def test_what_has_not_ended_is_not_deleted(status, given):
    task = make_task(status, **given)

    with (
        refuses(f"task {task.pk}, deleted as {status}"),
        refereeing.for_tests_too(),
        transaction.atomic(),
    ):
        task.delete()


@only_postgresql
def test_what_has_ended_may_be_deleted():
    for task in [make_task(status) for status in TERMINAL]:
        with refereeing.for_tests_too():
            task.delete()


class off:  # noqa: N801 - reads as a word
    """The escape of one transaction."""

    def __enter__(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL taskcontrol.referee = 'off'")

    def __exit__(self, *error: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL taskcontrol.referee = 'on'")


@only_postgresql
def test_one_transaction_may_escape():
    task = make_task(S.FINISHED)
    with off():
        write(task, status=S.STARTED, ended_at=None, occupies=True)
    with refuses("rev goes"):
        write(task, rev=F("rev"))


# Recording


@pytest.fixture
def recording():
    """The referee only writes down; in the transaction of the test."""
    referee.install(referee.Mode.RECORD)


@only_postgresql
@pytest.mark.usefixtures("recording")
def test_in_production_it_records_and_lets_go_on():
    task = make_task(S.FINISHED)

    write(task, status=S.STARTED, ended_at=None, started_at=DatabaseNow(), occupies=True)

    task.refresh_from_db()
    assert task.status == S.STARTED
    write(task, rev=F("rev"))
    write(task, rev=F("rev"))
    again, first = referee.recorded().order_by("-pk")
    assert (again.count, first.count) == (2, 1)
    assert (first.kind, first.task_id, first.attempt) == ("illegal", task.pk, 1)
    assert first.found.startswith(
        f"task {task.pk}, Finished -> Started in attempt 1: there is no such move (backend "
    )


@only_postgresql
@pytest.mark.usefixtures("recording")
def test_a_rule_that_is_itself_broken_refuses_nothing_in_production():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE taskcontrol_incident RENAME TO elsewhere")

    task = make_task()
    write(task, rev=F("rev"))
    write(task, job_name="written")

    task.refresh_from_db()
    assert task.job_name == "written"


# The verb and the doctor


def run(*words: str) -> str:
    out = StringIO()
    call_command("taskcontrol", "referee", *words, stdout=out)
    return out.getvalue().strip()


@only_postgresql
def test_the_verb_installs_and_removes():
    assert run("remove") == "The referee is not installed."
    write(make_task(), rev=F("rev"))  # anything goes
    assert referee.state() is None

    assert run("install") == "The referee is installed, and records what breaks a rule."
    assert run("install", "--raise") == (
        "The referee is installed, and refuses what breaks a rule."
    )
    assert json.loads(run("--json")) == {
        "mode": "raise",
        "current": True,
        "missing": [],
        "recorded": 0,
        "newest": [],
    }


@only_postgresql
@pytest.mark.usefixtures("recording")
def test_the_verb_and_the_doctor_say_what_was_found():
    task = make_task()
    write(task, rev=F("rev"))

    with pytest.raises(SystemExit, match="1"):
        run()
    said = run("remove")
    (finding,) = [one for one in examine() if one.subject == "Referee"]

    assert "1 incident recorded, the newest first:" in said
    assert f"task {task.pk}, Pending -> Pending in attempt 0: rev goes from 0 to 0" in said
    assert finding.level == "FAIL"
    assert f"task {task.pk}, Pending -> Pending" in finding.text
    assert "recorded" not in run("resolve").replace("records", "")
    assert referee.recorded().count() == 0


@only_postgresql
def test_a_trigger_that_is_switched_off_is_seen():
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE taskcontrol_tasklog DISABLE TRIGGER taskcontrol_referee_limits"
        )

    (finding,) = [one for one in examine() if one.subject == "Referee"]

    assert referee.state().missing == ["limits"]
    assert finding.level == "WARN"
    assert "without its triggers limits" in finding.text


@only_postgresql
def test_rules_of_another_version_are_seen(monkeypatch):
    monkeypatch.setattr(referee, "_version", lambda: "another")

    (finding,) = [one for one in examine() if one.subject == "Referee"]

    assert finding.level == "WARN"
    assert "another version" in finding.text


def test_a_mode_belongs_to_install():
    with pytest.raises(CommandError, match="--raise belongs to install"):
        run("status", "--raise")


@pytest.mark.only_on("sqlite", "mysql")
@pytest.mark.parametrize("act", ["install", "remove", "status"])
def test_other_databases_have_none_and_say_so(act):
    with pytest.raises(CommandError, match="triggers of PostgreSQL, and the tasks are in"):
        run(act)
    with pytest.raises(NoReferee):
        referee.install(referee.Mode.RECORD)


@only_postgresql
def test_installing_waits_for_nobody_for_long(monkeypatch):
    monkeypatch.setattr(referee, "LOCK_WAIT", 0.2)
    other = connection.get_new_connection(connection.get_connection_params())
    try:
        other.execute("LOCK TABLE taskcontrol_tasklog IN ROW EXCLUSIVE MODE")
        with pytest.raises(TableBusy, match=r"for 0\.2 s without a commit"):
            referee.install(referee.Mode.RECORD)
    finally:
        other.close()

    assert referee.state().mode is referee.Mode.RAISE
