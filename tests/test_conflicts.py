"""Conflicts: which errors pass, told by real databases and by the codes of the drivers."""

from __future__ import annotations

import sqlite3
import threading

import pytest
from django.db import OperationalError, connection, transaction

from taskcontrol.conflicts import is_conflict, passes
from taskcontrol.exceptions import Retry
from tests.models import Counter
from tests.waiting import race


def caused_by(cause: BaseException) -> OperationalError:
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


class Told(Exception):
    """An error as PostgreSQL's driver raises it."""

    def __init__(self, state: str) -> None:
        super().__init__(f"it said {state}")
        self.sqlstate = state


def of_postgresql(state: str) -> Exception:
    return Told(state)


def of_mariadb(number: int) -> Exception:
    driver = type("OperationalError", (Exception,), {"__module__": "pymysql.err"})
    return driver(number, "it said so")


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (of_postgresql("40001"), True),
        (of_postgresql("40P01"), True),
        (of_postgresql("55P03"), True),
        (of_postgresql("23505"), False),
        (of_postgresql("57014"), False),
        (of_mariadb(1213), True),
        (of_mariadb(1205), True),
        (of_mariadb(1062), False),
        (Exception(1213, "not of a database"), False),
    ],
    ids=repr,
)
def test_a_conflict_is_known_by_its_code(cause, expected):
    assert is_conflict(cause) is expected
    assert is_conflict(caused_by(cause)) is expected


def test_an_error_of_the_project_that_was_caused_by_a_conflict_is_its_own():
    error = ValueError("mine")
    error.__cause__ = of_postgresql("40P01")

    assert not is_conflict(error)


def test_a_locked_sqlite_file_is_a_conflict(tmp_path):
    one, other = (sqlite3.connect(tmp_path / "db", timeout=0) for _ in range(2))
    one.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as other_error:
        one.execute("SELECT * FROM nowhere")

    assert is_conflict(caused_by(caught.value))
    assert not is_conflict(caused_by(other_error.value))
    one.close()
    other.close()


@pytest.mark.databases
@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.django_db(transaction=True)
def test_a_real_deadlock_is_a_conflict():
    # By key: without an index MariaDB locks every row that it looks at.
    one, other = (Counter.objects.create(name=name).pk for name in ("a", "b"))
    met = threading.Barrier(2)

    def lock(first: int, then: int) -> BaseException | None:
        try:
            with transaction.atomic():
                Counter.objects.select_for_update().get(pk=first)
                met.wait(10)
                Counter.objects.select_for_update().get(pk=then)
        except OperationalError as error:
            return error
        return None

    answers = race(lambda: lock(one, other), lambda: lock(other, one))

    (error,) = [one for one in answers if one is not None]
    assert is_conflict(error)


@pytest.mark.databases
@pytest.mark.only_on("postgresql", "mysql")
@pytest.mark.django_db(transaction=True)
def test_a_real_lock_that_is_not_waited_for_is_a_conflict():
    Counter.objects.create(name="held")

    def ask() -> BaseException | None:
        try:
            with transaction.atomic():
                if connection.vendor == "mysql":
                    with connection.cursor() as cursor:
                        cursor.execute("SET innodb_lock_wait_timeout = 1")
                    Counter.objects.select_for_update().get(name="held")
                Counter.objects.select_for_update(nowait=True).get(name="held")
        except OperationalError as error:
            return error
        return None

    with transaction.atomic():
        Counter.objects.select_for_update().get(name="held")
        (error,) = race(ask)

    assert error is not None
    assert is_conflict(error)


def test_only_a_retry_without_a_delay_is_run_in_place():
    assert passes(Retry())
    assert not passes(Retry(0))
    assert not passes(ValueError())
