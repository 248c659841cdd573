"""How times, counts and tables are said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from taskcontrol.wording import as_json, counted, duration, listed, moment, table


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (7203, "2 h"),
        (90000, "1 d 1 h"),
        (86400 * 400, "400 d"),
    ],
)
def test_a_duration_is_said_in_two_units(seconds, said):
    assert duration(seconds) == said


def test_a_moment_is_said_in_the_time_zone_of_the_site():
    with timezone.override("Asia/Kathmandu"):
        assert moment(datetime(2026, 1, 31, 12, tzinfo=UTC)) == "2026-01-31 17:45:00 +0545"


def test_a_moment_without_a_zone_is_said_as_it_is():
    assert moment(datetime(2026, 1, 31, 12)) == "2026-01-31 12:00:00"  # noqa: DTZ001


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ["task"], "1 task"),
        (0, ["task"], "0 tasks"),
        (12000, ["task"], "12,000 tasks"),
        (2, ["body", "bodies"], "2 bodies"),
    ],
)
def test_a_count_has_its_noun(number, words, said):
    assert counted(number, *words) == said


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], ""),
        ([5], "5"),
        ([5, 7], "5 and 7"),
        ([5, 7, 9], "5, 7 and 9"),
        ([5, 7, 9, 11, 13], "5, 7, 9 and 2 more"),
    ],
)
def test_a_list_ends_with_how_many_more_there_are(items, said):
    assert listed(items, 3) == said


def test_a_table_puts_numbers_to_the_right():
    assert table(["Queue", "Tasks"], [("default", 1200), ("long", 3)]).splitlines() == [
        "Queue    Tasks",
        "default  1,200",
        "long         3",
    ]


def test_a_table_without_rows_is_its_header():
    assert table(["Queue", "Tasks"], []) == "Queue  Tasks"


@dataclass
class Note:
    at: datetime
    text: str


def test_json_takes_dataclasses_times_and_any_letters():
    written = as_json([Note(datetime(2026, 1, 31, 12, tzinfo=UTC), "grün")])

    assert "grün" in written
    assert json.loads(written) == [{"at": "2026-01-31T12:00:00Z", "text": "grün"}]


def test_json_refuses_what_it_cannot_say():
    with pytest.raises(TypeError, match="not JSON serializable"):
        as_json(object())
