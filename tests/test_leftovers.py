"""What a body leaves open or broken is closed, so that its end can be written."""

from __future__ import annotations

import weakref

import pytest
from django.db import DatabaseError, connection, transaction

from taskcontrol.exceptions import TransactionLeftOpen
from taskcontrol.leftovers import (
    close,
    let_go_of_memory,
    refuse_what_is_open,
    roll_back_what_is_open,
    standing,
)
from taskcontrol.sessions import remember
from tests.models import Counter
from tests.test_sessions import driver_without_autocommit
from tests.waiting import beside

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


def written() -> bool:
    return Counter.objects.filter(name="left").exists()


def test_a_transaction_that_was_left_open_is_rolled_back():
    transaction.atomic().__enter__()
    Counter.objects.create(name="left")

    roll_back_what_is_open()

    assert not connection.in_atomic_block
    assert not written()
    with transaction.atomic():
        Counter.objects.create(name="next")
    assert Counter.objects.filter(name="next").exists()


def test_a_transaction_that_an_error_has_broken_is_rolled_back():
    transaction.atomic().__enter__()
    Counter.objects.create(name="left")
    connection.needs_rollback = True

    roll_back_what_is_open()

    assert not written()
    assert not connection.needs_rollback


@pytest.mark.only_on("postgresql", "mysql")
def test_what_was_written_without_autocommit_is_rolled_back():
    transaction.set_autocommit(False)
    Counter.objects.create(name="left")

    roll_back_what_is_open()

    assert connection.get_autocommit()
    assert not written()


def begin_past_django():
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    Counter.objects.create(name="left")


def test_a_transaction_that_django_knows_nothing_of_is_rolled_back():
    begin_past_django()

    roll_back_what_is_open()

    assert not written()
    Counter.objects.create(name="next")
    assert beside(Counter.objects.get).name == "next"


@pytest.mark.parametrize("how", [begin_past_django, transaction.set_autocommit])
def test_what_a_caller_has_open_stays_his(how):
    if how is begin_past_django:
        begin_past_django()
    else:
        transaction.set_autocommit(False)
    before = connection.connection

    roll_back_what_is_open(standing())

    assert connection.connection is before
    close(connection)
    assert not beside(written)


def test_a_session_that_a_caller_has_set_up_for_himself_stays_his():
    remember()
    connection.ensure_connection()
    before = connection.connection
    try:
        driver_without_autocommit()

        roll_back_what_is_open(standing())

        assert connection.connection is before
    finally:
        close(connection)


def test_what_a_block_has_opened_since_is_not_the_callers():
    connection.ensure_connection()
    before = standing()
    begin_past_django()

    roll_back_what_is_open(before)

    assert not written()


@pytest.mark.only_on("mysql")
def test_a_driver_that_does_not_tell_of_a_transaction_has_the_database_asked():
    class Silent:
        """As mysqlclient, which keeps to itself what the server says with each answer."""

        def __init__(self, raw):
            self.raw = raw

        def __getattr__(self, name):
            return getattr(self.raw, name) if name != "server_status" else None

    begin_past_django()
    raw, connection.connection = connection.connection, Silent(connection.connection)
    try:
        with pytest.raises(TransactionLeftOpen):
            refuse_what_is_open()

        raw.rollback()
        refuse_what_is_open()
    finally:
        connection.connection = raw


def test_what_is_open_is_refused_by_the_name_of_its_database():
    begin_past_django()

    with pytest.raises(
        TransactionLeftOpen, match=r"open in the database 'default'.*atomic"
    ):
        refuse_what_is_open()
    refuse_what_is_open(but={"default"})

    roll_back_what_is_open()
    refuse_what_is_open()


def test_a_connection_in_order_stays_open():
    Counter.objects.create(name="left")
    before = connection.connection

    refuse_what_is_open()
    roll_back_what_is_open()

    assert connection.connection is before
    assert written()


def test_a_driver_that_refuses_to_close_stops_nothing():
    class Refusing:
        connection = None

        def close(self) -> None:
            raise DatabaseError("it was closed by the body")

    close(Refusing())


def test_a_cursor_that_somebody_still_reads_holds_no_lock():
    """SQLite keeps a closed connection, with its transaction, for the sake of its cursors."""
    Counter.objects.bulk_create(Counter(name=str(n)) for n in range(3))
    transaction.atomic().__enter__()
    Counter.objects.update(value=1)
    cursor = connection.cursor()
    cursor.execute("SELECT name FROM tests_counter")
    cursor.fetchone()

    roll_back_what_is_open()

    assert beside(lambda: Counter.objects.update(value=2)) == 3
    assert set(Counter.objects.values_list("value", flat=True)) == {2}
    assert cursor is not None


def test_a_pool_is_not_given_a_session_back_that_somebody_has_spoilt():
    class Raw:
        closed = False

        def rollback(self):
            """Nothing is open."""

        def close(self):
            self.closed = True

    class Pooled:
        pool = "a pool"
        connection = Raw()

        def close(self):
            """Give it to the pool, which keeps what is not closed."""

    close(Pooled())

    assert Pooled.connection.closed


class Large:
    """Stands for what fills the memory."""


def holding(error):
    """Raise ``error`` while something large is held."""
    large = Large()
    references.append(weakref.ref(large))
    raise error


references: list[weakref.ref[Large]] = []


def test_what_is_held_where_memory_ran_out_is_let_go():
    try:
        try:
            holding(MemoryError())
        except MemoryError:
            holding(ValueError("on the way"))
    except ValueError as error:
        kept = error
    assert all(one() for one in references[-2:])

    let_go_of_memory(kept)

    assert not any(one() for one in references[-2:])


def test_other_errors_keep_what_a_debugger_may_want_to_see():
    try:
        holding(ValueError("it failed"))
    except ValueError as error:
        kept = error
    kept.__cause__ = kept  # a loop ends too

    let_go_of_memory(kept)

    assert references[-1]() is not None
