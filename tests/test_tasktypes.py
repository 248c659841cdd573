"""What holds for a method: what code declares, overlaid by what a person changed."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import registry, tasktypes
from taskcontrol.models import TaskType
from taskcontrol.registry import declare_type
from tests.factories import make_type
from tests.waiting import beside, race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

M = "tests.nowhere.method"


@pytest.fixture(autouse=True)
def declarations(monkeypatch):
    """Nothing is declared but what the test declares."""
    monkeypatch.setattr(registry, "declarations", {})
    monkeypatch.setattr(tasktypes, "declarations", registry.declarations)


def stored(method=M):
    return TaskType.objects.get(method=method)


# Defaults


def test_a_method_that_nobody_knows_has_no_defaults():
    assert tasktypes.defaults_of(M) == {}


def test_what_code_declares_holds_before_the_type_is_stored():
    declare_type(M, queue="long", max_retries=2)

    assert tasktypes.defaults_of(M) == {"queue": "long", "max_retries": 2}


def test_what_the_database_says_beats_what_code_declares():
    declare_type(M, queue="long", max_retries=2)
    make_type(M, queue="short", timeout=7)

    defaults = tasktypes.defaults_of(M)

    assert (defaults["queue"], defaults["timeout"]) == ("short", 7)


def test_a_change_by_this_process_is_seen_at_once():
    one = make_type(M, timeout=5)
    assert tasktypes.defaults_of(M)["timeout"] == 5

    one.timeout = 6
    one.save()
    assert tasktypes.defaults_of(M)["timeout"] == 6

    one.delete()
    assert "timeout" not in tasktypes.defaults_of(M)


def test_a_change_by_another_process_is_seen_after_some_seconds(monkeypatch):
    make_type(M, timeout=5)
    tasktypes.defaults_of(M)
    TaskType.objects.update(timeout=6)
    assert tasktypes.defaults_of(M)["timeout"] == 5

    monkeypatch.setattr(tasktypes, "CACHE_SECONDS", 0)

    assert tasktypes.defaults_of(M)["timeout"] == 6


def test_the_types_are_read_once_for_many_calls():
    make_type(M)
    tasktypes.defaults_of(M)

    with CaptureQueriesContext(connection) as queries:
        for number in range(50):
            tasktypes.defaults_of(f"{M}{number}")

    assert len(queries) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_who_waits_for_the_types_keeps_no_forked_process_waiting():
    reading, go_on = threading.Event(), threading.Event()

    def wait(execute, sql, params, many, context):
        reading.set()
        assert go_on.wait(60)
        return execute(sql, params, many, context)

    def read():
        with connection.execute_wrapper(wait):
            return tasktypes.known_types()

    make_type(M, timeout=5)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: [read(), connections.close_all()])
        assert reading.wait(60)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            connection.connection = None  # the parent's
            os._exit(0 if tasktypes.defaults_of(M)["timeout"] == 5 else 1)
        _, status = os.waitpid(child, 0)
        go_on.set()

    assert status == 0


def test_what_was_read_before_a_change_is_not_kept_after_it(monkeypatch):
    one = make_type(M, timeout=5)
    one.timeout, rows = 6, TaskType.objects.all

    def read_and_change():
        monkeypatch.undo()
        before = list(rows())
        one.save()
        return before

    monkeypatch.setattr(TaskType.objects, "all", read_and_change)
    tasktypes.known_types()

    assert tasktypes.defaults_of(M)["timeout"] == 6


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("whole", [False, True], ids=["savepoint", "whole"])
def test_a_change_that_is_rolled_back_held_for_its_transaction_alone(whole):
    one = make_type(M, timeout=5)
    assert tasktypes.defaults_of(M)["timeout"] == 5

    with transaction.atomic():
        with transaction.atomic():
            one.timeout = 6
            one.save()
            assert tasktypes.defaults_of(M)["timeout"] == 6
            assert beside(lambda: tasktypes.defaults_of(M)["timeout"]) == 5
            transaction.set_rollback(not whole)
        assert tasktypes.defaults_of(M)["timeout"] == (6 if whole else 5)
        transaction.set_rollback(whole)

    assert tasktypes.defaults_of(M)["timeout"] == 5


@pytest.mark.django_db(transaction=True)
def test_a_change_is_seen_by_all_threads_after_its_commit():
    one = make_type(M, timeout=5)
    with transaction.atomic():
        one.timeout = 6
        one.save()
        assert beside(lambda: tasktypes.defaults_of(M)["timeout"]) == 5

    assert beside(lambda: tasktypes.defaults_of(M)["timeout"]) == 6
    assert tasktypes.defaults_of(M)["timeout"] == 6


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_has_changed_types_reads_them_once(django_assert_num_queries):
    with transaction.atomic():
        make_type(M, timeout=5)
        with django_assert_num_queries(1):
            for number in range(50):
                tasktypes.defaults_of(f"{M}{number}")


# Insertion


def test_missing_types_are_inserted_with_what_code_declares():
    make_type("known", timeout=9)
    declare_type(M, priority=4)

    tasktypes.ensure(["known", M, "unknown"])

    rows = TaskType.objects.filter(method__in=["known", M, "unknown"]).values_list(
        "method", "priority", "timeout", "is_standard"
    )
    assert sorted(rows) == [
        ("known", 0, 9, False),
        (M, 4, None, True),
        ("unknown", 0, None, False),
    ]


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_meet_a_method_make_one_type():
    answers = race(*[lambda: tasktypes.ensure([M])] * 6)

    assert answers == [None] * 6
    assert TaskType.objects.filter(method=M).count() == 1


# Synchronization


def test_a_declaration_is_stored():
    declare_type(M, timeout=5, concurrency_limit=2)

    tasktypes.sync_declared()
    tasktypes.sync_declared()

    one = stored()
    assert (one.timeout, one.concurrency_limit, one.is_standard) == (5, 2, True)
    assert one.declared == {"timeout": 5, "concurrency_limit": 2}


def test_a_changed_declaration_changes_what_nobody_edited():
    declare_type(M, timeout=5, priority=1)
    tasktypes.sync_declared()

    declare_type(M, timeout=6, queue="long")
    tasktypes.sync_declared()

    one = stored()
    assert (one.timeout, one.priority, one.queue) == (6, 0, "long")


def test_a_persons_edit_outlives_every_later_declaration():
    declare_type(M, timeout=5, priority=1)
    tasktypes.sync_declared()
    TaskType.objects.update(timeout=50)

    for timeout in (6, 7):
        declare_type(M, timeout=timeout, priority=timeout)
        tasktypes.sync_declared()

    one = stored()
    assert (one.timeout, one.priority) == (50, 7)


def test_an_edit_of_what_was_not_declared_outlives_its_declaration():
    declare_type(M)
    tasktypes.sync_declared()
    TaskType.objects.update(concurrency_limit=3)

    declare_type(M, concurrency_limit=10)
    tasktypes.sync_declared()

    assert stored().concurrency_limit == 3


def test_a_type_that_code_begins_to_declare_becomes_standard():
    make_type(M)

    declare_type(M)
    tasktypes.sync_declared()

    assert stored().is_standard is True


def test_reset_drops_what_a_person_changed():
    declare_type(M, timeout=5)
    tasktypes.sync_declared()
    one = stored()
    one.timeout, one.priority, one.owner_may_retry = 50, 9, True

    tasktypes.reset_to_declared(one)

    one = stored()
    assert (one.timeout, one.priority, one.owner_may_retry) == (5, 0, False)
    declare_type(M, timeout=6)
    tasktypes.sync_declared()
    assert stored().timeout == 6


def test_a_synchronization_without_a_change_writes_nothing():
    declare_type(M, timeout=5)
    tasktypes.sync_declared()

    with CaptureQueriesContext(connection) as queries:
        tasktypes.sync_declared()

    assert [one["sql"][:6] for one in queries] == ["SELECT"]
