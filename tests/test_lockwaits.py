"""Waits for locks are bounded, and the connection is left as it was."""

from __future__ import annotations

from contextlib import closing

import pytest
from django.db import OperationalError, connection, transaction

from taskcontrol.brief import brief
from taskcontrol.lockwaits import LockWaitOver, at_most, impatient
from tests.models import Counter
from tests.waiting import beside, race

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.databases,
    pytest.mark.only_on("postgresql", "mysql"),
]


def patience():
    asked = {
        "postgresql": "SELECT current_setting('lock_timeout')",
        "mysql": "SELECT @@innodb_lock_wait_timeout",
    }
    with connection.cursor() as cursor:
        cursor.execute(asked[connection.vendor])
        return cursor.fetchone()[0]


def wait_for(pk, seconds):
    """Wait for a row as long as is allowed; return the patience before and after."""
    before = patience()
    try:
        with transaction.atomic(), at_most(seconds, "default"):
            Counter.objects.select_for_update().get(pk=pk)
    except LockWaitOver as over:
        return type(over), before, patience()
    return None, before, patience()


def test_a_wait_that_takes_too_long_is_over_and_nothing_stays_of_it():
    held = Counter.objects.create(name="held")
    with transaction.atomic():
        Counter.objects.select_for_update().get(pk=held.pk)
        kind, before, after = beside(lambda: wait_for(held.pk, 0.1))

    assert kind is LockWaitOver
    assert before == after


def test_what_is_free_is_not_waited_for_and_the_transaction_goes_on():
    free = Counter.objects.create(name="free")

    with transaction.atomic():
        before = patience()
        with at_most(0.1, "default"):
            Counter.objects.select_for_update().get(pk=free.pk)
            assert patience() != before
        assert patience() == before
        free.raise_by()

    assert Counter.objects.get().value == 1


def test_another_error_of_the_database_is_passed_on():
    def deadlock(error):
        with transaction.atomic(), at_most(1, "default"):
            raise error

    (said,) = race(lambda: deadlock(OperationalError("something else")))

    assert str(said) == "something else"


def test_a_connection_that_is_gone_is_no_second_error():
    def lose():
        with at_most(1, "default"):
            connection.close()
            raise OperationalError("gone")

    with pytest.raises(OperationalError, match="gone"):
        lose()


@pytest.mark.only_on("postgresql")
def test_a_connection_that_is_lost_inside_is_told_in_djangos_words():
    def lose():
        with transaction.atomic(), at_most(1, "default"):
            pid = connection.connection.info.backend_pid
            other = connection.copy()
            with closing(other), other.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    (said,) = race(lose)

    assert isinstance(said, OperationalError), repr(said)


# Threads on which others rely


def raise_it(pk):
    return Counter.objects.filter(pk=pk).update(value=1)


def raise_it_in_a_transaction(pk):
    with transaction.atomic():
        return raise_it(pk)


def raise_it_after_a_savepoint(pk):
    with brief():
        with transaction.atomic():
            Counter.objects.create(name="other")
        return raise_it(pk)


def lock_it(pk):
    with brief(swift=True):
        return Counter.objects.select_for_update().get(pk=pk)


WAITS = [raise_it, raise_it_in_a_transaction, raise_it_after_a_savepoint, lock_it]


@pytest.mark.parametrize("wait", WAITS)
def test_an_impatient_thread_gives_up_and_can_go_on(wait):
    held = Counter.objects.create(name="held")
    free = Counter.objects.create(name="free")

    def tries():
        before = patience()
        with impatient("default"):
            with pytest.raises(LockWaitOver):
                wait(held.pk)
            wait(free.pk)
        return before == patience()

    with transaction.atomic():
        Counter.objects.select_for_update().get(pk=held.pk)
        assert beside(tries)


def test_what_an_impatient_thread_writes_by_itself_stands_at_once():
    with impatient("default"):
        one = Counter.objects.create(name="one")
        assert beside(lambda: Counter.objects.get(pk=one.pk).name) == "one"
        assert Counter.objects.count() == 1


def test_others_are_as_patient_as_before():
    before = patience()
    with impatient("default"):
        assert beside(patience) == before
    with transaction.atomic():
        Counter.objects.create(name="c")
        assert patience() == before
