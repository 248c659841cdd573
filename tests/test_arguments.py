"""Arguments come back from the database as the very types that they went in with."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
from collections import OrderedDict
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from hypothesis.extra.django import TestCase

from taskcontrol.arguments import MAX_DEPTH, decode, encode, size_of
from taskcontrol.exceptions import ArgumentsNotSerializable
from taskcontrol.models import TaskLog
from tests.factories import make_task
from tests.models import Counter

pytestmark = pytest.mark.databases

VIENNA = ZoneInfo("Europe/Vienna")


def stored(value):
    """Return ``value`` after a way through the database."""
    task = make_task(arguments=encode({"value": value}))
    return decode(TaskLog.objects.values_list("arguments", flat=True).get(pk=task.pk))[
        "value"
    ]


def same(left, right):
    """Compare values and types, nested, telling NaN, -0.0, zones and folds apart."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return sorted(map(repr, left)) == sorted(map(repr, right))
    if isinstance(left, dt.datetime):
        zones = getattr(left.tzinfo, "key", None), getattr(right.tzinfo, "key", None)
        return left.isoformat() == right.isoformat() and zones[0] == zones[1]
    return repr(left) == repr(right)


VALUES = [
    None,
    True,
    0,
    -1,
    2**63,
    10**400,
    0.1,
    -0.0,
    5.0,
    1e20,
    1e16,
    1e-7,
    5e-324,
    1.7976931348623157e308,
    math.pi,
    math.nan,
    math.inf,
    -math.inf,
    1 + 2j,
    "",
    "text",
    "\0",
    "\ud800 half",
    "\U0001f4a9",
    "2026-01-01",
    b"",
    b"\0\xff",
    [],
    {},
    (),
    set(),
    frozenset(),
    [1, [2, [3]]],
    (1, (2, [3])),
    {1, "a", None},
    frozenset({(1, 2)}),
    {"a": {"b": (1,)}},
    {"tc": 1},
    {"tc": ["set", []]},
    {"tc": {"tc": {"tc": 1}}},
    {"tc": 1, "other": 2},
    {"": 1},
    Decimal("1.10"),
    Decimal("NaN"),
    Decimal("-Infinity"),
    Decimal("1E+400"),
    UUID(int=7),
    dt.date(2026, 2, 28),
    dt.date.min,
    dt.time(1, 2, 3, 4),
    dt.timedelta(days=-1, microseconds=1),
    dt.timedelta.max,
    dt.datetime(2026, 1, 2, 3, 4, 5, 6),  # noqa: DTZ001 - naive on purpose
    dt.datetime.min,  # noqa: DTZ901 - naive on purpose
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30))),
    dt.datetime(2026, 7, 1, 12, tzinfo=VIENNA),
    # the hour that comes twice, both times, and the one that never comes
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=VIENNA),
    dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=VIENNA),
    dt.datetime(2026, 3, 29, 2, 30, tzinfo=VIENNA),
    dt.datetime(1800, 1, 1, tzinfo=VIENNA),
    dt.datetime(1, 1, 1, tzinfo=VIENNA),
    dt.datetime(9999, 12, 31, 23, 59, tzinfo=ZoneInfo("America/New_York")),
    dt.datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")),
]


@pytest.mark.django_db
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_with_its_type(value):
    assert same(stored(value), value)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.decimals(),
    st.uuids(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.datetimes(),
    st.datetimes(timezones=st.timezones()),
    st.complex_numbers(),
)
keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(keys, st.just("tc")), inner, max_size=3),
        st.frozensets(st.integers() | keys, max_size=3),
    ),
    max_leaves=12,
)


class RoundTrip(TestCase):
    """Through the real column of the database of the run."""

    @given(values)
    @hypothesis_settings(max_examples=150, deadline=None)
    def test_any_value_comes_back_with_its_type(self, value):
        assert same(stored(value), value)


class Color(enum.StrEnum):
    RED = "red"


class Number(int):
    pass


circle: list = []
circle.append(circle)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "arguments['value']"),
        ([1, {"a": [object()]}], "arguments['value'][1]['a'][0]"),
        (Counter(name="a"), "tests.models.Counter"),
        (Color.RED, "Color"),
        (Number(5), "Number"),
        (OrderedDict(a=1), "OrderedDict"),
        ({1: "a"}, "its key 1 is not plain text"),
        ({("a",): 1}, "is not plain text"),
        ({"\0": 1}, "is not plain text"),
        ({"\ud800": 1}, "is not plain text"),
        (bytearray(b"a"), "bytearray"),
        (print, "builtin_function_or_method"),
        (iter([]), "list_iterator"),
        (dt.time(1, tzinfo=VIENNA), "time zone"),
        (circle, f"deeper than {MAX_DEPTH}"),
        pytest.param(10**5000, "arguments['value']", id="a number of 5,000 digits"),
        (Exception("a"), "Exception"),
    ],
)
def test_what_would_come_back_changed_is_refused_with_its_place(value, place):
    with pytest.raises(ArgumentsNotSerializable) as refused:
        size_of(encode({"value": value}))

    assert place in str(refused.value)


@pytest.mark.django_db
def test_the_deepest_value_that_is_taken_comes_back():
    value: list = []
    for _ in range(MAX_DEPTH - 1):
        value = [value]

    assert stored(value) == value


@pytest.mark.django_db
def test_the_deepest_tagged_value_that_is_taken_comes_back():
    value: tuple = (dt.timedelta(1),)
    for _ in range(MAX_DEPTH):
        value = (value, {"tc": dt.datetime(2026, 1, 1, tzinfo=VIENNA)})
        try:
            encode({"value": value})
        except ArgumentsNotSerializable:
            return
        assert same(stored(value), value)


def test_the_size_counts_bytes_and_not_characters():
    assert size_of({"a": "ä" * 100}) == len(json.dumps({"a": ""})) + 200


def test_a_set_is_stored_in_one_order_whatever_the_hash_seed():
    assert encode({"b", "a", "c"}) == {"tc": ["set", ["a", "b", "c"]]}
