"""Any text becomes storable, short enough, and free of secrets, in bounded time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st

from taskcontrol import text
from taskcontrol.models import TaskEvent
from tests import tasks
from tests.factories import make_task
from tests.waiting import within

anything = st.text(st.characters(exclude_categories=()))


# Storable


@given(anything, st.integers(0, 200))
def test_a_clean_text_is_storable_and_short(value, limit):
    cleaned = text.clean(value, limit)

    assert text.storable(cleaned)
    assert len(cleaned) <= max(limit, len(text.shorten("x" * 10**6, 0)))
    if len(value) <= limit and text.storable(value):
        assert cleaned == value


@pytest.mark.django_db
@pytest.mark.databases
@pytest.mark.parametrize(
    "value",
    [
        "nul \0.",
        "half \ud800.",
        "half \udfff, other",
        "all \U0001f4a9 fine",
        "\ufffe\uffff",
    ],
)
def test_every_database_takes_a_clean_text(value):
    event = TaskEvent.objects.create(
        task=make_task(), kind="gone", detail=text.clean(value, 100)
    )

    event.refresh_from_db()

    assert event.detail == value.translate({0: 0xFFFD, 0xD800: 0xFFFD, 0xDFFF: 0xFFFD})


def test_of_a_long_text_the_head_and_the_tail_stay():
    cleaned = text.clean("head" + "-" * 10_000 + "tail", 1000)

    assert cleaned.startswith("head-")
    assert cleaned.endswith("-tail")
    assert "9,008 characters cut" in cleaned
    assert len(cleaned) == 1000


@pytest.mark.parametrize("length", [999, 1000, 1001])
def test_a_text_is_cut_only_when_it_is_longer_than_the_limit(length):
    assert ("cut" in text.shorten("x" * length, 1000)) is (length > 1000)


def test_a_clipped_text_keeps_its_first_characters():
    assert text.clipped("a\0bcd", 3) == "a\ufffdb"
    assert text.clipped("", 3) == ""


class NoText:
    def __str__(self):
        raise RuntimeError

    __repr__ = __str__


def test_what_has_no_text_is_told_by_its_type():
    assert text.clean(NoText(), 100) == "<NoText whose text cannot be had: RuntimeError>"
    assert text.safe_str(5) == "5"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_a_text_that_would_end_the_process_is_no_text(error):
    class Leaving:
        def __str__(self):
            raise error

    assert text.safe_str(Leaving()).startswith("<Leaving whose text cannot be had: ")


@pytest.mark.parametrize(
    "value", [None, True, 1, 10**400, 1.5, "text", [], {}, [{"a": [None]}], {"": ""}]
)
def test_plain_json_is_storable(value):
    assert text.storable(value)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "\0",
        ["\ud800"],
        {"\0": 1},
        {"a": {"b": "\0"}},
        {1: 2},
        (1,),
        b"",
        object(),
    ],
)
def test_what_a_database_would_refuse_or_change_is_not_storable(value):
    assert not text.storable(value)


# Secrets

MASK = "********"

SECRETS = {
    "password=hunter2": f"password={MASK}",
    "password = 'hunter2'": f"password = {MASK}",
    'API_KEY="abc def"': f"API_KEY={MASK}",
    "{'password': 'hunter2', 'user': 'ann'}": f"{{'password': {MASK}, 'user': 'ann'}}",
    '{"my secret": "x y z"}': f'{{"my secret": {MASK}}}',
    "X-Api-Key: abcdef": f"X-Api-Key: {MASK}",
    "Authorization: Bearer abcdefghij": f"Authorization: Bearer {MASK}",
    "bearer abcdefghij": f"bearer {MASK}",
    "Basic dXNlcjpwYXNz": f"Basic {MASK}",
    "postgres://ann:hunter2@db:5432/x": f"postgres://ann:{MASK}@db:5432/x",
    "redis://:hunter2@cache/0": f"redis://:{MASK}@cache/0",
    "got eyJhbGciOi.eyJzdWIiOi.SflKxwRJSM end": f"got {MASK} end",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----": (
        f"-----BEGIN RSA PRIVATE KEY-----{MASK}-----END RSA PRIVATE KEY-----"
    ),
    "-----BEGIN PRIVATE KEY-----\ncut short": f"-----BEGIN PRIVATE KEY-----{MASK}",
    "session_id=0123456789; path=/": f"session_id={MASK}; path=/",
    "?token=abc&next=1": f"?token={MASK}",
}


@pytest.mark.parametrize("told", SECRETS)
def test_a_secret_is_replaced_by_stars(told):
    assert text.redact(told) == SECRETS[told]


@pytest.mark.parametrize(
    "told",
    [
        "password = read_password()",
        "user=ann name=bob",
        "the key was not found",
        "http://example.com:8000/path",
        "ssh://git@host/repo",
        "KeyError: 'letter'",
        "ValueError: invalid literal for int() with base 10: 'abc'",
        "at 12:30: passed",
    ],
)
def test_what_is_no_secret_stays(told):
    assert text.redact(told) == told


def test_the_names_of_secrets_can_be_set(conf):
    assert text.redact("iban=DE00123") == "iban=DE00123"

    conf(SECRET_NAMES=("iban",))

    assert text.redact("iban=DE00123 password=x1y2z3") == f"iban={MASK} password=x1y2z3"


HOSTILE = [
    *("x", "pass", "key-", "a-", "key ", "'key ", "eyJ-", "eyJaaaaa.", "key=", '"key="'),
    *("://", "://a:", "Bearer ", "-----BEGIN PRIVATE KEY-----", "-", "key=  ", "'key'"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_text_keeps_a_worker_searching(piece):
    # With a search that takes quadratic time some of these took minutes to days.
    with within(20):
        text.redact((piece * 131_072)[:131_072])


# Errors


def error_of(call, *args):
    try:
        call(*args)
    except BaseException as error:  # noqa: BLE001 - any
        return error
    raise AssertionError("it did not raise")


def test_an_error_is_told_with_its_traceback_and_its_last_line():
    told = text.describe(error_of(tasks.fail, "no such letter"))

    assert told.startswith("Traceback (most recent call last):")
    assert "tests/tasks.py" in told
    assert text.last_line(told) == "ValueError: no such letter"


def test_an_error_does_not_tell_local_values():
    told = text.describe(error_of(tasks.use_secret, "hunter2"))

    assert "hunter2" not in told
    assert text.last_line(told) == "RuntimeError: refused (16)"


def test_an_error_never_raised_is_told_by_its_last_line():
    assert text.describe(ValueError("alone")) == "ValueError: alone"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (tasks.fail_with_nul, "ValueError: before\ufffdafter"),
        (tasks.fail_with_surrogate, "ValueError: before\ufffdafter"),
        (tasks.fail_without_text, "tests.tasks.Mute"),
        (tasks.fail_unpicklably, "tests.tasks.Unpicklable: cannot be pickled"),
        (tasks.fail_with_megabytes, "xxx"),
        (tasks.recurse, "RecursionError: maximum recursion depth exceeded"),
        (tasks.stop_iterating, "StopIteration"),
        (tasks.interrupt, "KeyboardInterrupt"),
        (tasks.leave, "SystemExit: 0"),
        (tasks.run_out_of_memory, "MemoryError: no more"),
    ],
)
def test_an_error_that_is_hard_to_tell_is_told(call, expected):
    with within(20):
        told = text.describe(error_of(call))

    assert text.storable(told)
    assert len(told) <= 64 * 1024
    assert expected in text.last_line(told)


def test_a_long_chain_of_causes_is_told_short():
    with within(20):
        told = text.describe(error_of(tasks.fail_in_chain, 300))

    assert len(told) <= 64 * 1024
    assert text.last_line(told) == "ValueError: level 300"


def test_several_errors_at_once_are_all_told():
    told = text.describe(error_of(tasks.fail_in_group))

    assert "several (2 sub-exceptions)" in told
    assert "ValueError: one" in told
    assert "KeyError: 'two'" in told


def test_an_error_that_fights_back_is_told_by_its_type():
    class Hostile(Exception):
        @property
        def __cause__(self):
            raise asyncio.CancelledError

    assert text.describe(Hostile()).startswith("Hostile (its traceback cannot be shown")


def test_an_error_with_a_secret_in_its_text_does_not_tell_it():
    assert "hunter2" not in text.describe(ValueError("cannot reach redis://a:hunter2@b"))


@pytest.mark.parametrize(
    ("told", "expected"),
    [("", ""), ("\n \n", ""), ("a\n b \n\n", "b"), ("x" * 600, "x" * 500)],
)
def test_the_last_line_is_the_last_one_that_says_something(told, expected):
    assert text.last_line(told) == expected


def test_a_password_in_an_address_is_masked_up_to_the_last_at_sign():
    told = text.redact("mysql://root:p@ss@h/db and http://h:80/a@b")

    assert told == "mysql://root:********@h/db and http://h:80/a@b"
