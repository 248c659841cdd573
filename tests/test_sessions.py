"""A session is what it was when it was opened, whatever a body has made of it."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest
from django.db import connection, connections
from django.db.backends.signals import connection_created

from taskcontrol import sessions
from taskcontrol.leftovers import roll_back_what_is_open
from taskcontrol.sessions import is_spoilt, remember, wrappers_kept
from tests.models import Counter

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


@pytest.fixture(autouse=True)
def opened():
    """A session that was opened while somebody listened, and that stays with nobody."""
    connection.close()
    remember()
    connection.ensure_connection()
    yield
    connections.close_all()


def spoilt():
    return is_spoilt(connections["default"])


def execute(text):
    with connection.cursor() as cursor:
        cursor.execute(text)


def rows_as_dicts():
    raw = connection.connection
    if connection.vendor == "postgresql":
        from psycopg.rows import dict_row

        raw.row_factory = dict_row
    elif connection.vendor == "sqlite":
        raw.row_factory = lambda cursor, row: {
            column[0]: value for column, value in zip(cursor.description, row, strict=True)
        }
    else:
        from pymysql.cursors import DictCursor

        raw.cursorclass = DictCursor


def driver_without_autocommit():
    raw = connection.connection
    if connection.vendor == "postgresql":
        raw.autocommit = False
    elif connection.vendor == "sqlite":
        raw.isolation_level = "DEFERRED"
    else:
        raw.autocommit(False)


#: On which databases (None: on all), and how.
SPOILERS = {
    "rows as dicts": (None, rows_as_dicts),
    "driver without autocommit": (None, driver_without_autocommit),
    "SQL without autocommit": ("mysql", lambda: execute("SET autocommit = 0")),
    "texts as bytes": (
        "sqlite",
        lambda: setattr(connection.connection, "text_factory", bytes),
    ),
    "dates": ("postgresql", lambda: execute("SET datestyle TO 'German, DMY'")),
    "durations": ("postgresql", lambda: execute("SET intervalstyle TO 'iso_8601'")),
    "zone": ("postgresql", lambda: execute("SET TIME ZONE 'Asia/Kathmandu'")),
    "encoding": ("postgresql", lambda: execute("SET client_encoding TO 'LATIN1'")),
}


def spoil(name):
    vendor, how = SPOILERS[name]
    if vendor not in {None, connection.vendor}:
        pytest.skip("another database")
    how()


@pytest.mark.parametrize("name", SPOILERS)
def test_a_session_that_is_otherwise_than_it_was_opened_is_closed(name):
    before = connection.connection
    spoil(name)
    assert spoilt()

    roll_back_what_is_open()

    Counter.objects.create(name="next")
    assert connection.connection is not before
    assert not spoilt()


@pytest.mark.parametrize("name", [name for name in SPOILERS if "autocommit" not in name])
def test_a_site_that_wants_its_sessions_so_keeps_them(name):
    def set_up(**_signal):
        spoil(name)

    # As the receivers of a site, which connect when it starts: before ours.
    sessions._listen.cache_clear()
    connection_created.disconnect(dispatch_uid="taskcontrol.sessions")
    connection_created.connect(set_up)
    try:
        connection.close()
        remember()
        connection.ensure_connection()
        before = connection.connection

        roll_back_what_is_open()

        assert connection.connection is before
    finally:
        connection_created.disconnect(set_up)


def test_a_session_that_was_there_before_is_as_it_is_found(monkeypatch):
    monkeypatch.setattr(sessions, "_opened", type(sessions._opened)())
    before = connection.connection
    rows_as_dicts()
    assert not spoilt()

    remember()
    assert not spoilt()
    roll_back_what_is_open()

    assert connection.connection is before


def test_it_is_remembered_once_and_not_as_a_body_leaves_it():
    driver_without_autocommit()

    remember()

    assert spoilt()


@pytest.mark.only_on("postgresql")
def test_a_session_that_cannot_tell_how_it_is_is_not_kept():
    connection.connection.close()

    roll_back_what_is_open()

    assert not Counter.objects.exists()


def test_a_connection_that_is_closed_is_not_spoilt():
    connection.close()

    assert not spoilt()


# Wrappers of queries


def refuse(*_query):
    raise RuntimeError("no queries in here")


def allow(execute, *query):
    return execute(*query)


@contextmanager
def wrapped_at_opening():
    """As what traces the queries of a site."""

    def install(connection, **_signal):
        if allow not in connection.execute_wrappers:
            connection.execute_wrappers.append(allow)

    sessions._listen.cache_clear()
    connection_created.disconnect(dispatch_uid="taskcontrol.sessions")
    connection_created.connect(install)
    try:
        yield
    finally:
        connection_created.disconnect(install)
        while allow in connection.execute_wrappers:
            connection.execute_wrappers.remove(allow)


def test_a_wrapper_that_a_block_leaves_is_gone_and_one_that_it_takes_is_back():
    connection.execute_wrappers.append(allow)
    try:
        with suppress(ValueError), wrappers_kept():
            connection.execute_wrappers.remove(allow)
            connection.execute_wrappers.append(refuse)
            raise ValueError("it failed")

        assert allow in connection.execute_wrappers
        assert refuse not in connection.execute_wrappers
    finally:
        connection.execute_wrappers.remove(allow)
    assert not Counter.objects.exists()


def test_a_session_that_a_block_opens_keeps_what_the_site_wraps_it_in():
    with wrapped_at_opening():
        connection.close()
        with wrappers_kept():
            connection.ensure_connection()
            connection.execute_wrappers.append(refuse)

        assert allow in connection.execute_wrappers
        assert refuse not in connection.execute_wrappers


def test_a_block_within_a_block_keeps_what_the_outer_one_has_installed():
    with wrappers_kept():
        connection.execute_wrappers.append(allow)
        with wrappers_kept():
            connection.execute_wrappers.append(refuse)
        assert allow in connection.execute_wrappers
        assert refuse not in connection.execute_wrappers
    assert allow not in connection.execute_wrappers
