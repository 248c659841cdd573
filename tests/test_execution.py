"""Whatever a body does, its attempt has one readable end, and the next one runs untouched."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import warnings
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from django.contrib.auth.models import User
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)

import taskcontrol
from taskcontrol import ends, execution, interrupts, lifecycle
from taskcontrol.arguments import encode
from taskcontrol.context import current_task, current_user
from taskcontrol.exceptions import Discard, Retry, TaskCanceled
from taskcontrol.execution import run, run_claimed
from taskcontrol.models import Incident, TaskAttempt, TaskEvent, TaskLog
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests import tasks
from tests.factories import make_task, make_type, make_user, make_worker, seconds_ago
from tests.models import Counter
from tests.waiting import beside, race, within

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.databases,
]

#: Bodies that the tests make up: called by name through ``made_up``.
made: dict[str, object] = {}


def made_up(name="body"):
    """The body of the test."""
    return made[name]()


@pytest.fixture(autouse=True)
def nothing_stays():
    """A body may close what it likes; the streams are pytest's."""
    before = sys.stdout, sys.stderr
    yield
    sys.stdout, sys.stderr = before
    connections.close_all()


def queued(method="tests.test_execution.made_up", attempt=1, **columns):
    arguments = encode(columns.pop("given", {}))
    return make_task(
        Status.QUEUED, method=method, attempt=attempt, arguments=arguments, **columns
    )


def outcome(body, **columns):
    """Run ``body`` as the body of a task; return its row."""
    made["body"] = body
    task = queued(**columns)
    row = execution.claim(task.pk, 1)
    assert row is not None
    with within(60):
        run_claimed(row)
    return TaskLog.objects.get(pk=task.pk)


def raising(error):
    def body():
        raise error

    return body


def the_next_one_runs():
    row = outcome(lambda: print("hello") or "fine")  # noqa: T201 - output is captured
    assert (row.status, row.result, row.debug_log) == (Status.FINISHED, "fine", "hello\n")


# The plain road


def test_a_body_that_returns_has_finished():
    task = queued(tasks.add.__module__ + ".add", given={"left": 1, "right": 2})

    assert run(task.pk, 1) is True

    row = TaskLog.objects.get()
    assert (row.status, row.result, row.occupies, row.error_message) == (
        Status.FINISHED,
        3,
        False,
        "",
    )
    assert row.pid == os.getpid()
    assert row.started_at <= row.ended_at
    assert timedelta(0) <= row.time_taken < timedelta(seconds=5)
    assert row.peak_memory_usage > 1000
    assert not TaskEvent.objects.exists()


def test_a_body_gets_its_arguments_with_their_types():
    task = queued("tests.tasks.type_of", given={"value": Decimal(1)})

    run(task.pk, 1)

    assert TaskLog.objects.get().result == "Decimal"


# Once


def test_a_duplicate_message_runs_nothing_p3(record):
    task = queued("tests.tasks.recorded")

    assert [run(task.pk, 1) for _ in range(10)] == [True] + [False] * 9

    assert record.starts() == {(task.pk, 1): 1}


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_a_message_of_another_attempt_runs_nothing_p3(record, attempt):
    task = queued("tests.tasks.recorded", attempt=2)

    assert run(task.pk, attempt) is False

    assert record.lines() == []
    assert TaskLog.objects.get().status == Status.QUEUED


@pytest.mark.parametrize("status", sorted(set(Status) - {Status.QUEUED}))
def test_a_message_that_comes_too_late_runs_nothing_p3(record, status):
    task = make_task(status, method="tests.tasks.recorded", attempt=1)

    assert run(task.pk, 1) is False

    assert record.lines() == []
    assert TaskLog.objects.get().rev == 0


def test_a_message_of_a_deleted_task_runs_nothing(record):
    assert run(123456, 1) is False


def test_of_many_deliveries_at_once_one_runs_p3(record):
    task = queued("tests.tasks.recorded")

    answers = race(*[lambda: run(task.pk, 1)] * 6)

    assert sorted(answers) == [False] * 5 + [True]
    assert record.starts() == {(task.pk, 1): 1}


def test_a_superseded_attempt_changes_nothing_and_frees_its_place_p3():
    task = queued()

    def body():
        lifecycle.cancel(TaskLog.objects.get(pk=task.pk), reason="enough")
        return "late"

    made["body"] = body
    row = execution.claim(task.pk, 1)

    assert run_claimed(row) is False

    after = TaskLog.objects.get()
    assert (after.status, after.result, after.ended_reason, after.occupies) == (
        Status.CANCELED,
        None,
        "enough",
        False,
    )


def test_a_superseded_attempt_cannot_end_its_successor_p3():
    task = queued()

    def body():
        lifecycle.rescue(task.pk, 1, detail="lost")
        lifecycle.promote([task.pk], site="s")
        lifecycle.claim(task.pk, 2, worker_id=None, pid=1)
        raise ValueError("late")

    made["body"] = body
    run_claimed(execution.claim(task.pk, 1))

    after = TaskLog.objects.get()
    assert (after.status, after.attempt, after.error_message, after.occupies) == (
        Status.STARTED,
        2,
        "",
        True,
    )


# Nasty errors: every one ends readably


class Own(BaseException):
    """Not an Exception."""


class Recursive(Exception):
    def __str__(self):
        return str(self)


class Reduced(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


class Falsy(Exception):
    def __bool__(self):
        raise RuntimeError("no truth")

    def __eq__(self, other):
        raise RuntimeError("no equality")

    __hash__ = Exception.__hash__


class NamedBadly(Exception):
    __module__ = "no\0pe\ud800"


def in_a_circle():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise first


def deep_group():
    group: BaseException = ValueError("innermost")
    for _ in range(500):
        group = ExceptionGroup("g", [group])
    raise group


def wide_group():
    raise BaseExceptionGroup("many", [KeyError(n) for n in range(5000)])


def with_notes():
    error = ValueError("noted")
    error.add_note("a note\0" + "x" * 10**6)
    raise error


ERRORS = {
    "plain": (raising(ValueError("bad")), "ValueError: bad"),
    "nul": (tasks.fail_with_nul, "before\ufffdafter"),
    "half a character": (tasks.fail_with_surrogate, "before\ufffdafter"),
    "fifty megabytes": (lambda: tasks.fail_with_megabytes(50), "xxx"),
    "unpicklable": (tasks.fail_unpicklably, "cannot be pickled"),
    "reduce raises": (raising(Reduced("r")), "Reduced: r"),
    "no text": (tasks.fail_without_text, "Mute"),
    "endless text": (raising(Recursive()), "Recursive"),
    "no truth": (raising(Falsy("f")), "Falsy"),
    "module of nonsense": (raising(NamedBadly("n")), "NamedBadly: n"),
    "chain of 1,000": (lambda: tasks.fail_in_chain(280), "level 280"),
    "circle": (in_a_circle, "ValueError: first"),
    "group": (tasks.fail_in_group, "several"),
    "deep group": (deep_group, ""),
    "wide group": (wide_group, "many"),
    "notes": (with_notes, "noted"),
    "stop iteration": (tasks.stop_iterating, "StopIteration"),
    "generator exit": (raising(GeneratorExit("g")), "GeneratorExit: g"),
    "canceled in asyncio": (raising(asyncio.CancelledError("a")), "CancelledError: a"),
    "exit": (lambda: tasks.leave(3), "SystemExit: 3"),
    "exit with text": (lambda: sys.exit("\0"), "SystemExit: \ufffd"),
    "interrupt": (tasks.interrupt, "KeyboardInterrupt"),
    "memory": (tasks.run_out_of_memory, "MemoryError: no more"),
    "recursion": (tasks.recurse, "RecursionError"),
    "base": (raising(Own("own")), "Own: own"),
    "celery's reject": (raising(Reject("r")), "Reject"),
    "discard with nul": (raising(Discard("no\0pe")), "no\ufffdpe"),
    "warning": (raising(UserWarning("w")), "UserWarning: w"),
    "decode error": (b"\xff".decode, "UnicodeDecodeError"),
    "encode error": ("\ud800".encode, "UnicodeEncodeError"),
    "syntax error": (lambda: compile("a b\0", "f\0", "exec"), "Error"),
    "broken transaction": (lambda: TaskLog.objects.create(status="no"), "IntegrityError"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_whatever_a_body_raises_is_told_readably(name):
    body, said = ERRORS[name]

    row = outcome(body)

    assert (row.status, row.occupies, row.retry_at) == (Status.FAILED, False, None)
    assert said in row.error_message
    assert len(row.error_message) <= 64 * 1024
    assert row.ended
    the_next_one_runs()


@pytest.mark.parametrize(
    "name", ["plain", "exit", "interrupt", "memory", "recursion", "base"]
)
def test_whatever_a_body_raises_is_retried_when_retries_are_left_p7(name):
    row = outcome(ERRORS[name][0], max_retries=1, retry_delay=60)

    assert row.retry_at - row.ended_at == pytest.approx(
        timedelta(seconds=60), abs=timedelta(seconds=1)
    )


# Nasty results: every one ends as Finished


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


RESULTS = {
    "none": (None, None),
    "number": (5, 5),
    "nested": ({"a": [1, None, True, "ä"]}, {"a": [1, None, True, "ä"]}),
    "tuple": ((1, 2), [1, 2]),
    "nan": (float("nan"), None),
    "infinity": ({"a": float("inf")}, None),
    "set": ({1}, None),
    "bytes": (b"a", None),
    "object": (object(), None),
    "row": (Counter(name="c"), None),
    "generator": ((n for n in [1]), None),
    "long number": (10**400, 10**400),
    "too long number": (10**5000, None),
    "nul": ({"a": "\0"}, None),
    "nul in a key": ({"\0": 1}, None),
    "half a character": (["\ud800"], None),
    "megabytes": ("x" * 3_000_000, None),
    "deep": (nested(100_000), None),
    "error": (ValueError("returned"), None),
    "circle": ([], None),
    **{f"{depth} deep": (nested(depth), ...) for depth in range(20, 1000, 70)},
}
RESULTS["circle"][0].append(RESULTS["circle"][0])


@pytest.mark.parametrize("name", RESULTS)
def test_whatever_a_body_returns_it_has_finished(name):
    value, kept = RESULTS[name]

    row = outcome(lambda: value)

    assert (row.status, row.error_message) == (Status.FINISHED, "")
    if kept is ...:
        assert row.result in (None, value)
    else:
        assert row.result == kept


def test_a_result_up_to_the_limit_is_kept(conf):
    conf(RESULT_MAX_BYTES=100)

    assert outcome(lambda: "x" * 98).result == "x" * 98
    assert outcome(lambda: "x" * 99).result is None


def test_a_body_that_asks_to_be_ignored_has_finished():
    assert outcome(raising(Ignore())).status == Status.FINISHED


# What errors mean


def test_a_discarded_task_is_not_retried():
    row = outcome(raising(Discard("worthless")), max_retries=5)

    assert (row.status, row.retry_at, row.ended_reason) == (
        Status.FAILED,
        None,
        "discarded: worthless",
    )


@pytest.mark.parametrize(
    ("delay", "own", "expected"),
    [(30, 7, 30), (0, 7, 0), (0.5, None, 0.5), (timedelta(minutes=2), 7, 120)],
)
def test_a_task_may_ask_for_its_next_attempt(delay, own, expected):
    row = outcome(raising(Retry(delay)), max_retries=1, retry_delay=own)

    waited = (row.retry_at - row.ended_at).total_seconds()
    assert waited == pytest.approx(expected, abs=0.9)


@pytest.mark.parametrize(
    "delay", [float("nan"), float("inf"), -5, 1e300, True, "soon", timedelta(-1)], ids=str
)
def test_a_nonsensical_delay_fails_the_attempt_with_a_sentence(delay):
    def body():
        raise Retry(delay)

    row = outcome(body, max_retries=1)

    assert (row.status, row.retry_at is not None) == (Status.FAILED, True)
    assert "The delay of a Retry must be seconds or a timedelta" in row.error_message


def test_asking_does_not_pass_the_number_of_retries_p7():
    row = outcome(raising(Retry(0)), max_retries=2, retry_count=2)

    assert row.retry_at is None


def test_a_timeout_is_told_as_one_and_retried():
    row = outcome(raising(SoftTimeLimitExceeded()), timeout=5, max_retries=1)

    assert row.ended_reason == "timed out"
    assert "longer than its timeout of 5 s" in row.error_message
    assert row.retry_at is not None


def test_a_body_that_raises_our_cancel_by_itself_has_failed():
    row = outcome(raising(TaskCanceled()), max_retries=1)

    assert (row.status, row.ended_reason, row.retry_at) == (Status.FAILED, "stopped", None)


@pytest.mark.parametrize("method", ["tests.tasks.not_deployed", "tests.nowhere.job"])
def test_an_unknown_method_fails_with_what_to_do_and_is_retried_p1(method):
    task = queued(method, max_retries=1)

    run(task.pk, 1)

    row = TaskLog.objects.get()
    assert (row.status, row.ended_reason) == (Status.FAILED, "unknown method")
    assert "deploy it to this worker" in row.error_message
    assert "Traceback" not in row.error_message
    assert row.retry_at is not None


def test_a_method_that_may_not_run_here_fails_and_is_not_run():
    task = queued("os.getpid")

    run(task.pk, 1)

    row = TaskLog.objects.get()
    assert (row.status, row.result) == (Status.FAILED, None)
    assert "may not run" in row.error_message


def test_arguments_that_do_not_fit_any_more_fail_readably():
    task = queued("tests.tasks.add", given={"up": 1})

    run(task.pk, 1)

    assert "unexpected keyword argument 'up'" in TaskLog.objects.get().error_message


def test_stored_arguments_that_cannot_be_read_fail_readably():
    task = queued("tests.tasks.give_back")
    TaskLog.objects.update(arguments={"value": {"tc": ["no such tag", 1]}})

    run(task.pk, 1)

    assert TaskLog.objects.get(pk=task.pk).status == Status.FAILED


# Bodies that break what is around them


def leave_a_transaction_open():
    transaction.atomic().__enter__()
    Counter.objects.create(name="never committed")


def begin_past_django():
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    Counter.objects.create(name="never committed")


def leave_autocommit_off():
    connection.set_autocommit(False)
    Counter.objects.create(name="never committed")


def break_a_transaction():
    transaction.atomic().__enter__()
    connection.needs_rollback = True


def close_within_a_transaction():
    transaction.atomic().__enter__()
    connection.close()


def close_the_raw_connection():
    connection.ensure_connection()
    connection.connection.close()


def block_every_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, {interrupts.CANCEL, interrupts.TIMEOUT})


def replace_stdout():
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - left open on purpose


def leave_a_thread():
    threading.Thread(target=threading.Event().wait, args=(0.2,)).start()


#: What is lost with the transaction that they leave open, nobody shall believe done.
LEAVERS = {
    "transaction left open": leave_a_transaction_open,
    "transaction begun past Django": begin_past_django,
    "autocommit off": leave_autocommit_off,
    "transaction broken": break_a_transaction,
    "closed within a transaction": close_within_a_transaction,
}
BREAKERS = {
    **LEAVERS,
    "all connections closed": connections.close_all,
    "raw connection closed": close_the_raw_connection,
    "stdout taken away": lambda: setattr(sys, "stdout", None),
    "stdout replaced": replace_stdout,
    "signals blocked": block_every_signal,
    "thread left": leave_a_thread,
    "recursion limit": lambda: sys.setrecursionlimit(300),
    "warnings as errors": lambda: warnings.simplefilter("error"),
}


@pytest.mark.parametrize("name", BREAKERS)
@pytest.mark.parametrize("then", ["return", "raise"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_a_body_breaks_its_end_is_written_and_the_next_one_runs(name, then):
    limit = sys.getrecursionlimit()

    def body():
        BREAKERS[name]()
        if then == "raise":
            raise ValueError("and raised")

    with warnings.catch_warnings():
        try:
            row = outcome(body)
            the_next_one_runs()
        finally:
            sys.setrecursionlimit(limit)
    if then == "raise":
        assert (row.status, "and raised" in row.error_message) == (Status.FAILED, True)
    elif name in LEAVERS:
        assert (row.status, row.result) == (Status.FAILED, None)
        assert "The body has left a transaction open" in row.error_message
    else:
        assert (row.status, row.error_message) == (Status.FINISHED, "")
    assert not beside(Counter.objects.exists)


def test_the_error_of_a_body_that_also_left_a_transaction_open_is_the_one_that_counts():
    def body():
        begin_past_django()
        raise ValueError("the true one")

    row = outcome(body, max_retries=1, options={"retry_on": ["builtins.ValueError"]})

    assert row.retry_at is not None
    assert "ValueError: the true one" in row.error_message


@pytest.mark.only_on("postgresql")
def test_a_script_that_fails_in_a_transaction_of_its_own_is_told_by_its_own_error():
    def body():
        with connection.cursor() as cursor:
            cursor.execute("BEGIN; SELECT 1/0; COMMIT;")

    row = outcome(body)

    assert row.status == Status.FAILED
    assert "division by zero" in row.error_message


def test_what_others_left_open_before_a_claim_takes_no_claim_with_it_p3():
    """A hook, or a receiver that is told of news in this process."""
    task = queued("tests.tasks.nothing")
    begin_past_django()
    connection.close_at = None  # as where connections are kept

    assert execution.claim(task.pk, 1) is not None

    assert beside(lambda: TaskLog.objects.get(pk=task.pk).status) == Status.STARTED


def test_a_body_that_leaves_a_transaction_open_behind_its_fence_stays_finished(caplog):
    def body():
        with current_task().fenced():
            pass
        begin_past_django()
        return "the rest"

    row = outcome(body)

    assert (row.status, row.result, row.occupies) == (Status.FINISHED, "the rest", False)
    assert not beside(Counter.objects.exists)
    assert "left a transaction open" in caplog.text
    assert "trying again" not in caplog.text


@pytest.mark.only_on("postgresql")
@pytest.mark.parametrize("then", ["return", "raise"])
def test_a_body_whose_session_was_ended_by_the_server_has_its_end(then):
    def body():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()

        def end_it():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])

        beside(end_it)
        if then == "raise":
            raise ValueError("and raised")

    row = outcome(body)

    assert row.status == (Status.FINISHED if then == "return" else Status.FAILED)
    the_next_one_runs()


#: Lets a session write nothing more.
READ_ONLY = {
    "postgresql": "SET default_transaction_read_only = on",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
}


def spoil_the_session():
    connection.close_at = None  # as where connections are kept
    with connection.cursor() as cursor:
        cursor.execute(READ_ONLY[connection.vendor])


@pytest.mark.parametrize("then", ["return", "raise"])
def test_a_body_that_made_its_session_read_only_has_its_end_and_the_next_one_runs(then):
    def body():
        spoil_the_session()
        if then == "raise":
            raise ValueError("and raised")

    row = outcome(body)

    assert row.status == (Status.FINISHED if then == "return" else Status.FAILED)
    assert ("and raised" in row.error_message) == (then == "raise")
    the_next_one_runs()


def set_driver(**values):
    for name, value in values.items():
        setattr(connection.connection, name, value)


def driver_without_autocommit():
    if connection.vendor == "mysql":
        connection.connection.autocommit(False)
    elif connection.vendor == "sqlite":
        set_driver(isolation_level="DEFERRED")
    else:
        set_driver(autocommit=False)


def rows_as_dicts():
    if connection.vendor == "mysql":
        from pymysql.cursors import DictCursor

        set_driver(cursorclass=DictCursor)
    elif connection.vendor == "sqlite":
        set_driver(row_factory=lambda _, row: dict(enumerate(map(str, row), 100)))
    else:
        from psycopg.rows import dict_row

        set_driver(row_factory=dict_row)


def in_latin_1():
    with connection.cursor() as cursor:
        cursor.execute("SET client_encoding TO 'LATIN1'")


@pytest.mark.parametrize(
    "how",
    [
        driver_without_autocommit,
        rows_as_dicts,
        pytest.param(in_latin_1, marks=pytest.mark.only_on("postgresql")),
    ],
)
@pytest.mark.parametrize("then", ["return", "raise"])
def test_a_body_that_left_its_session_otherwise_has_its_end_and_the_next_one_runs_p1(
    how, then
):
    def body():
        connection.close_at = None  # as where connections are kept
        how()
        print("\N{CHECK MARK}")  # noqa: T201 - output is captured
        if then == "raise":
            raise ValueError("and raised")

    row = outcome(body)

    seen = beside(lambda: TaskLog.objects.get(pk=row.pk))
    assert seen.status == (Status.FINISHED if then == "return" else Status.FAILED)
    assert ("and raised" in seen.error_message) == (then == "raise")
    assert seen.debug_log == "\N{CHECK MARK}\n"
    the_next_one_runs()


def no_queries(*_query):
    raise RuntimeError("no queries in here")


@pytest.mark.parametrize("then", ["return", "raise"])
def test_a_wrapper_of_queries_that_a_body_leaves_meets_neither_its_end_nor_the_next_one(
    then,
):
    def body():
        connection.execute_wrappers.append(no_queries)
        if then == "raise":
            raise ValueError("and raised")

    try:
        row = outcome(body)
        the_next_one_runs()
    finally:
        connection.execute_wrappers[:] = [
            one for one in connection.execute_wrappers if one is not no_queries
        ]
    assert row.status == (Status.FINISHED if then == "return" else Status.FAILED)
    assert ("and raised" in row.error_message) == (then == "raise")


@pytest.fixture
def alarms():
    """Alarms ring in here, and not in pytest, whose own comes back."""
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    yield rung
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left)


@pytest.mark.parametrize("then", ["return", "raise"])
def test_an_alarm_that_a_body_leaves_rings_in_nothing_that_comes_after_it(alarms, then):
    def body():
        signal.alarm(300)
        if then == "raise":
            raise ValueError("and raised")

    made["body"] = body
    assert run(queued().pk, 1) is True

    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_an_alarm_that_ran_before_a_body_is_somebody_elses_and_runs_on(alarms):
    signal.setitimer(signal.ITIMER_REAL, 300)

    made["body"] = lambda: "fine"
    assert run(queued().pk, 1) is True

    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0


def test_a_session_that_refuses_a_claim_takes_no_other_p1():
    task = queued("tests.tasks.nothing")
    spoil_the_session()

    with pytest.raises(DatabaseError):
        execution.claim(task.pk, 1)

    assert execution.claim(task.pk, 1) is not None


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (OperationalError, 2),
        (InterfaceError, 2),
        (InternalError, 2),
        (ProgrammingError, 2),
        (NotSupportedError, 2),
        (DataError, 1),
        (IntegrityError, 1),
        (TypeError, 2),
    ],
)
def test_an_end_is_tried_again_unless_its_values_are_to_blame(monkeypatch, error, tries):
    monkeypatch.setattr(ends, "END_PAUSES", (0,))
    connection.ensure_connection()
    tried = []

    def write():
        tried.append(1)
        raise error("no")

    with pytest.raises(error):
        ends._persistently(write)

    assert len(tried) == tries


def test_an_error_of_the_driver_is_tried_once_more_on_a_new_session(monkeypatch):
    """It may not like how the body left its session; what comes twice is of the end itself."""
    monkeypatch.setattr(ends, "END_PAUSES", (0, 0, 0))
    connection.ensure_connection()
    tried = []

    def write():
        tried.append(connection.connection)
        connection.ensure_connection()
        raise UnicodeEncodeError("latin-1", "\N{CHECK MARK}", 0, 1, "it has none")

    with pytest.raises(UnicodeEncodeError):
        ends._persistently(write)

    assert len(tried) == 2
    assert tried[0] is not None
    assert tried[1] is None


def test_what_hooks_leave_open_behind_an_end_holds_nothing_until_the_next_task(monkeypatch):
    """Nobody could tell who holds the row: a cancel, or a rescue, would wait for it."""
    connection.close_at = None  # as where connections are kept

    def hook(*_args, **_options):
        connection.close_at = None
        transaction.atomic().__enter__()
        TaskLog.objects.update(job_name="held")

    monkeypatch.setattr(execution.hooks, "after", hook)

    row = outcome(lambda: "fine")

    assert beside(lambda: TaskLog.objects.filter(pk=row.pk).update(job_name="free")) == 1
    assert not connection.in_atomic_block


def test_the_end_is_written_when_the_database_comes_back(monkeypatch):
    monkeypatch.setattr(ends, "END_PAUSES", (0.01, 0.01, 0.01))
    task = queued()
    row = execution.claim(task.pk, 1)
    outages = iter([True, True, False, False])
    real = lifecycle.finish

    def finish(*args, **values):
        if next(outages):
            raise OperationalError("the database restarts")
        return real(*args, **values)

    monkeypatch.setattr(lifecycle, "finish", finish)
    made["body"] = lambda: 1

    assert run_claimed(row) is True


def test_a_cancel_signal_stops_a_body_and_nothing_else():
    before = signal.getsignal(interrupts.CANCEL)
    interrupts.install()
    reached = []

    def send():
        signal.pthread_kill(threading.get_ident(), interrupts.CANCEL)

    def body():
        send()
        reached.append(1)

    try:
        row = outcome(body)
        send()
        the_next_one_runs()
    finally:
        signal.signal(interrupts.CANCEL, before)

    assert reached == []
    assert row.ended_reason == "stopped"


# A process that must go


@pytest.fixture
def must_go(monkeypatch):
    """Somebody ends this process from outside."""
    monkeypatch.setattr(interrupts, "process_must_go", lambda: True)
    monkeypatch.setattr(interrupts, "LEAVING_TAKES", 0)
    monkeypatch.setattr(interrupts, "_leaving", bytearray(1))


def test_a_body_that_was_interrupted_by_its_workers_end_is_given_back_p1(must_go):
    interrupts.note_leaving()
    made["body"] = raising(SystemExit())
    task = queued()
    row = execution.claim(task.pk, 1)

    with pytest.raises(SystemExit):
        run_claimed(row)

    after = TaskLog.objects.get()
    assert (after.status, after.lost_count, after.occupies) == (Status.PENDING, 0, False)
    assert TaskAttempt.objects.count() == 1


@pytest.mark.parametrize(
    ("times", "on_lost", "status"),
    [
        (0, "rerun", Status.PENDING),
        (3, "rerun", Status.FAILED),
        (0, "fail", Status.FAILED),
    ],
)
def test_a_body_that_was_interrupted_although_its_worker_stays_is_lost_p7(
    must_go, times, on_lost, status
):
    """It may have ended its process itself, and would do so in each attempt."""
    made["body"] = raising(SystemExit())
    task = queued(lost_count=times, options={"on_lost": on_lost})
    row = execution.claim(task.pk, 1)

    with pytest.raises(SystemExit):
        run_claimed(row)

    after = TaskLog.objects.get()
    assert (after.status, after.lost_count, after.occupies) == (status, times + 1, False)


def test_a_body_that_finished_while_its_worker_ended_has_finished(must_go):
    made["body"] = lambda: "done"
    task = queued()
    row = execution.claim(task.pk, 1)

    with pytest.raises(SystemExit):
        run_claimed(row)

    after = TaskLog.objects.get()
    assert (after.status, after.result) == (Status.FINISHED, "done")


def test_a_body_that_was_ended_by_force_at_its_time_limit_has_timed_out(must_go):
    made["body"] = raising(SystemExit())
    task = queued(timeout=0, max_retries=1)
    row = execution.claim(task.pk, 1)

    with pytest.raises(SystemExit):
        run_claimed(row)

    after = TaskLog.objects.get()
    assert (after.status, after.ended_reason, after.lost_count) == (
        Status.FAILED,
        "timed out",
        0,
    )
    assert "ended by force" in after.error_message
    assert after.retry_at is not None


def test_a_worker_that_has_no_row_runs_nothing_p1(monkeypatch, record):
    here = execution.Here()
    here.in_worker = True
    monkeypatch.setattr(execution, "here", here)
    task = queued("tests.tasks.recorded")

    assert run(task.pk, 1) is False
    assert (TaskLog.objects.get().status, record.lines()) == (Status.QUEUED, [])

    here.worker_id = make_worker().pk
    assert run(task.pk, 1) is True
    assert TaskLog.objects.get().worker_id == here.worker_id


@pytest.mark.parametrize("gone", ["lost_at", "left_at"])
def test_a_message_that_reached_a_worker_which_counts_as_gone_is_for_others_p1(
    monkeypatch, record, gone
):
    here = execution.Here()
    monkeypatch.setattr(execution, "here", here)
    here.worker_id = make_worker(**{gone: seconds_ago(1)}).pk
    task = queued("tests.tasks.recorded")

    assert run(task.pk, 1) is False

    now = TaskLog.objects.get()
    assert (now.status, now.lost_count, now.occupies) == (Status.PENDING, 0, False)
    assert record.lines() == []


def test_what_a_worker_that_is_there_is_refused_stays_as_it_is(monkeypatch):
    here = execution.Here()
    monkeypatch.setattr(execution, "here", here)
    here.worker_id = make_worker().pk
    task = queued(expires_at=seconds_ago(1))

    assert run(task.pk, 1) is False

    assert TaskLog.objects.get().status == Status.QUEUED


def test_a_database_that_stays_away_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(ends, "END_PAUSES", (0.01, 0.01))
    tries = []

    def never():
        tries.append(1)
        raise OperationalError("gone")

    with pytest.raises(OperationalError):
        ends._persistently(never)

    assert len(tries) == 3


# The current task


def test_a_body_knows_its_task_and_nothing_stays_of_it_p8():
    user = make_user("ann")
    seen = []

    def body():
        task = current_task()
        task.check_canceled()
        seen.append(
            (task.id, task.attempt, task.name, task.idempotency_key, current_user())
        )

    row = outcome(body, created_by=user)

    key = f"taskcontrol-{dispatcher_state().site}-{row.pk}"
    assert seen == [(row.pk, 1, str(row.pk), key, user)]
    assert (current_task(), current_user()) == (None, None)


def test_a_task_of_nobody_after_one_of_somebody_runs_as_nobody_p8():
    outcome(lambda: None, created_by=make_user("ann"))

    assert outcome(lambda: str(current_user())).result == "None"


def test_what_a_body_enqueues_belongs_to_its_creator_p8():
    user = make_user("ann")

    row = outcome(lambda: taskcontrol.enqueue("tests.tasks.nothing").pk, created_by=user)

    assert TaskLog.objects.get(pk=row.result).created_by == user


def test_a_task_whose_creator_was_deleted_does_not_run_as_the_system_p8():
    user = make_user("ann")
    made["body"] = lambda: taskcontrol.enqueue("tests.tasks.nothing").pk
    task = queued(created_by=user)
    User.objects.all().delete()

    run(task.pk, 1)

    row = TaskLog.objects.get()
    assert row.status == Status.FAILED
    assert "who was deleted meanwhile" in row.error_message


def test_a_body_is_told_that_it_was_canceled():
    task = queued()

    def body():
        lifecycle.cancel(TaskLog.objects.get(pk=task.pk))
        current_task().check_canceled()
        return "not reached"

    made["body"] = body
    assert run_claimed(execution.claim(task.pk, 1)) is False

    assert TaskLog.objects.get().result is None


@pytest.mark.only_on("postgresql", "mysql")
def test_a_body_in_a_transaction_is_told_that_it_was_canceled():
    task = queued()

    def body():
        with transaction.atomic():
            Counter.objects.create(name="c")
            beside(lambda: lifecycle.cancel(TaskLog.objects.get(pk=task.pk)))
            current_task().check_canceled()

    made["body"] = body
    assert run_claimed(execution.claim(task.pk, 1)) is False

    assert not Counter.objects.exists()


def test_the_last_progress_is_kept_and_the_log():
    def body():
        for count in range(1, 51):
            taskcontrol.notify_task_status({"progress": {"count": count, "total": 50}})
        tasks.talk("here")

    row = outcome(body)

    assert row.progress == {"count": 50, "total": 50}
    assert "printed here" in row.debug_log


def test_the_bell_rings_at_the_end_of_a_body(monkeypatch):
    rung = []
    monkeypatch.setattr(execution.bell, "ring", lambda: rung.append(1))

    outcome(lambda: None)

    assert rung == [1]


def test_a_body_that_its_worker_has_seen_go_is_no_zombie_p11():
    row = make_task(Status.STARTED)
    lifecycle.give_back(row.pk, row.attempt, detail="its worker left", occupied=True)
    assert ends.take_refusal(row)  # its place was kept until now
    lifecycle.promote([row.pk], site="s")

    assert not ends.take_refusal(row)

    assert not Incident.objects.exists()


def test_a_body_runs_in_autocommit():
    def body():
        Counter.objects.create(name="kept")
        raise ValueError("after the write")

    outcome(body)

    assert Counter.objects.count() == 1
    Counter.objects.all().delete()


@pytest.mark.only_on("postgresql", "sqlite")
def test_a_run_is_two_statements(django_assert_max_num_queries):
    make_type("tests.test_execution.made_up", declared={})
    outcome(lambda: None)
    task = queued()

    with django_assert_max_num_queries(2):
        run(task.pk, 1)
