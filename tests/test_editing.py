"""Arguments as a person edits them: every type comes back, and a mistake is told with its place."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings, strategies as st

from taskcontrol.arguments import decode, encode
from taskcontrol.editing import as_text, from_text
from taskcontrol.exceptions import InvalidCall

BERLIN = ZoneInfo("Europe/Berlin")

VALUES = [
    None,
    True,
    12,
    2**70,
    1.5,
    1e20,
    float("inf"),
    "text",
    "",
    "\x00 and \ud800",
    "Zürich 東京",
    b"\x00\xff",
    Decimal("12.50"),
    UUID(int=7),
    1 + 2j,
    dt.date(2026, 1, 31),
    dt.time(23, 59, 1, 5),
    dt.timedelta(days=-2, seconds=5, microseconds=7),
    dt.timedelta(hours=26),
    dt.datetime(2026, 1, 31, 12, 30),  # noqa: DTZ001 - bodies may want one without a zone
    dt.datetime(2026, 1, 31, 12, 30, tzinfo=dt.UTC),
    dt.datetime(2026, 7, 31, 12, 30, tzinfo=BERLIN),
    dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
    dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
    [1, [2, {"a": {1, 2}}]],
    (1, "two", (3,)),
    frozenset({1, 2}),
    {"a": {"b": None}},
    {"$date": "not one"},
    {"$dict": {"$x": 1}},
    {"tc": ["date", "no tag either"]},
    {"$date": 1, "other": 2},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_not_edited_comes_back_with_its_types(value):
    stored = encode({"value": value})

    again = from_text(as_text(decode(stored)))

    assert repr(again) == repr({"value": value})
    assert encode(again) == stored


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=5)
        | st.dates()
        | st.timedeltas()
        | st.decimals(allow_nan=False)
        | st.binary(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["a", "$date", "tc", "$"]), inner, max_size=2)
            | st.tuples(inner, inner)
        ),
        max_leaves=6,
    )
)
def test_anything_comes_back(value):
    assert repr(from_text(as_text({"v": value}))) == repr({"v": value})


def test_the_names_of_parameters_are_never_taken_for_types():
    assert from_text('{"$date": "2026-01-31"}') == {"$date": "2026-01-31"}


def test_a_type_is_written_so_that_a_person_can_change_it():
    text = as_text({"due": dt.date(2026, 1, 31), "sum": Decimal("1.50"), "for": (1, 2)})

    assert json.loads(text) == {
        "due": {"$date": "2026-01-31"},
        "sum": {"$decimal": "1.50"},
        "for": {"$tuple": [1, 2]},
    }
    changed = from_text(text.replace("01-31", "02-28").replace("1.50", "99"))
    assert changed == {"due": dt.date(2026, 2, 28), "sum": Decimal(99), "for": (1, 2)}


def test_of_a_time_with_a_zone_the_wall_counts_when_the_offset_was_left_as_it_was():
    text = as_text({"at": dt.datetime(2026, 7, 1, 9, tzinfo=BERLIN)})

    moved = from_text(text.replace("2026-07-01", "2026-12-01"))

    assert moved == {"at": dt.datetime(2026, 12, 1, 9, tzinfo=BERLIN)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON: .* in line 1, column 2"),
        ('{\n "a": 1,\n}', "line 3"),
        ("[1]", "object of names and values"),
        ('{"a": NaN}', "JSON has none"),
        ('{"a": {"$date": "soon"}}', "a: 'soon' is no date"),
        ('{"a": {"$date": 5}}', "a: \\$date takes a text, not 5"),
        ('{"a": [{"$set": 5}]}', r"a\[0\]: \$set takes a list"),
        ('{"a": {"$set": [[1]]}}', "unhashable"),
        ('{"a": {"b": {"$money": "1"}}}', r"a\['b'\]: '\$money' names no type; there are"),
        ('{"a": {"$decimal": "x"}}', "'x' is no decimal"),
        ('{"a": {"$timedelta": "long"}}', "'long' is no timedelta"),
        ('{"a": {"$bytes": "?"}}', "is no bytes"),
        ('{"a": {"$datetime": "2026-01-01[Nowhere/City]"}}', "is no datetime"),
        ('{"a": {"$uuid": "1"}}', "is no uuid"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_mistake_is_told_with_its_place(text, why):
    with pytest.raises(InvalidCall, match=why):
        from_text(text)
