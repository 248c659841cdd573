"""What a body leaves open or broken is closed, so that its end can be written."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from taskcontrol.leftovers import close, roll_back_what_is_open
from tests.models import Counter

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


def test_a_connection_in_order_stays_open():
    Counter.objects.create(name="left")
    before = connection.connection

    roll_back_what_is_open()

    assert connection.connection is before
    assert written()


def test_a_driver_that_refuses_to_close_stops_nothing():
    class Refusing:
        def close(self) -> None:
            raise DatabaseError("it was closed by the body")

    close(Refusing())
