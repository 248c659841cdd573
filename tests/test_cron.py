"""Cron expressions: what the seeds write, what cron means, and both changes of the clock."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pytest
from celery.schedules import crontab
from django.core.exceptions import ValidationError
from django_celery_beat.models import CrontabSchedule

from taskcontrol.cron import known_zone, last_until, next_after, written_out
from taskcontrol.exceptions import InvalidCall, InvalidCron

# It asks no database, and one run does for all.
pytestmark = pytest.mark.only_on("sqlite")

#: A Thursday.
BEGIN = "2026-01-15 08:07:30"

#: Every cron string of the four seeds with its next three runs after BEGIN.
SEEDS = {
    "15 18 * * *": ["2026-01-15 18:15", "2026-01-16 18:15", "2026-01-17 18:15"],
    "*/6 * * * *": ["2026-01-15 08:12", "2026-01-15 08:18", "2026-01-15 08:24"],
    "annual": ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"],
    "0/5 * * * *": ["2026-01-15 08:10", "2026-01-15 08:15", "2026-01-15 08:20"],
    "0 * * * *": ["2026-01-15 09:00", "2026-01-15 10:00", "2026-01-15 11:00"],
    "0 19 * * *": ["2026-01-15 19:00", "2026-01-16 19:00", "2026-01-17 19:00"],
    "0 1 * * *": ["2026-01-16 01:00", "2026-01-17 01:00", "2026-01-18 01:00"],
    "0 6 * * *": ["2026-01-16 06:00", "2026-01-17 06:00", "2026-01-18 06:00"],
    "* * * * *": ["2026-01-15 08:08", "2026-01-15 08:09", "2026-01-15 08:10"],
    "*/15 * * * *": ["2026-01-15 08:15", "2026-01-15 08:30", "2026-01-15 08:45"],
    "0 9 * * 1-5": ["2026-01-15 09:00", "2026-01-16 09:00", "2026-01-19 09:00"],
    "0 0 * * 0": ["2026-01-18 00:00", "2026-01-25 00:00", "2026-02-01 00:00"],
    "0 0 1 * *": ["2026-02-01 00:00", "2026-03-01 00:00", "2026-04-01 00:00"],
    "*/30 9-17 * * 1-5": ["2026-01-15 09:00", "2026-01-15 09:30", "2026-01-15 10:00"],
    # The keys beside "cron".
    "hourly": ["2026-01-15 09:00", "2026-01-15 10:00", "2026-01-15 11:00"],
    "daily": ["2026-01-16 00:00", "2026-01-17 00:00", "2026-01-18 00:00"],
    "weekly": ["2026-01-18 00:00", "2026-01-25 00:00", "2026-02-01 00:00"],
    "monthly": ["2026-02-01 00:00", "2026-03-01 00:00", "2026-04-01 00:00"],
    "yearly": ["2027-01-01 00:00", "2028-01-01 00:00", "2029-01-01 00:00"],
}

#: What cron means, where other readers of cron differ.
RULES = {
    # Two days that are both named: either will do.
    "0 0 13 * 5": ["2026-01-16 00:00", "2026-01-23 00:00", "2026-01-30 00:00"],
    # A field that begins with a star does not count as named: both must fit.
    "0 0 */2 * 5": ["2026-01-23 00:00", "2026-02-13 00:00", "2026-02-27 00:00"],
    "0 0 29 2 *": ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"],
    "0 9 * * mon": ["2026-01-19 09:00", "2026-01-26 09:00", "2026-02-02 09:00"],
    "0 9 1 JAN,Jul *": ["2026-07-01 09:00", "2027-01-01 09:00", "2027-07-01 09:00"],
    "0 0 * * 7": ["2026-01-18 00:00", "2026-01-25 00:00", "2026-02-01 00:00"],
    "0 0 * * 5-7": ["2026-01-16 00:00", "2026-01-17 00:00", "2026-01-18 00:00"],
    "0 0 * * sun": ["2026-01-18 00:00", "2026-01-25 00:00", "2026-02-01 00:00"],
    "50/3 8 * * *": ["2026-01-15 08:50", "2026-01-15 08:53", "2026-01-15 08:56"],
    "0 20/2 * * *": ["2026-01-15 20:00", "2026-01-15 22:00", "2026-01-16 20:00"],
    "0 0 * * 4/2": ["2026-01-17 00:00", "2026-01-22 00:00", "2026-01-24 00:00"],
    "@daily": ["2026-01-16 00:00", "2026-01-17 00:00", "2026-01-18 00:00"],
    " 5   4\t* * * ": ["2026-01-16 04:05", "2026-01-17 04:05", "2026-01-18 04:05"],
}


def at(text, zone=dt.UTC):
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone)


def runs(expression, begin=BEGIN, count=3, zone="UTC"):
    plain, moment, found = written_out(expression), at(begin), []
    for _ in range(count):
        moment = next_after(plain, zone, moment)
        found.append(moment.strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize("expression", SEEDS)
def test_every_cron_string_of_the_seeds_runs_when_it_says(expression):
    assert runs(expression) == SEEDS[expression]


@pytest.mark.parametrize("expression", RULES)
def test_days_names_and_steps_mean_what_they_mean_to_cron(expression):
    assert runs(expression) == RULES[expression]


@pytest.mark.parametrize("expression", [*SEEDS, *RULES])
def test_what_is_written_out_is_taken_by_celery_and_by_the_form_of_the_beat(expression):
    minute, hour, day, month, weekday = written_out(expression).split()
    fields = {
        "minute": minute,
        "hour": hour,
        "day_of_month": day,
        "month_of_year": month,
        "day_of_week": weekday,
    }

    crontab(**fields)
    try:
        CrontabSchedule(**fields, timezone="UTC").clean_fields()
    except ValidationError as error:
        pytest.fail(f"{fields}: {error}")
    assert written_out(written_out(expression)) == written_out(expression)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("61 * * * *", "the minute 61 is not between 0 and 59"),
        ("* 24 * * *", "the hour 24 is not between 0 and 23"),
        ("* * 0 * *", "the day of the month 0 is not between 1 and 31"),
        ("* * * 13 *", "the month 13 is not between 1 and 12"),
        ("* * * * 8", "the day of the week 8 is not between 0 and 7"),
        ("* * * * FOO", "the day of the week FOO is not between 0 and 7"),
        ("* * * *", "it has 4 fields and not five"),
        ("", "it has 0 fields and not five"),
        ("0 * * * * *", "it has 6 fields and not five"),
        ("sometimes", "it has 1 fields and not five"),
        ("*/0 * * * *", "the step of '*/0' must be 1 or more"),
        ("50-10 * * * *", "the minute goes from 50 back to 10; write two parts"),
        ("1,,2 * * * *", "'' is no minute"),
        ("*-5 * * * *", "'*-5' is no minute"),
        ("0 0 L * *", "the day of the month L is not between 1 and 31"),
        ("0 0 * * MON#1", "'MON#1' is no day of the week"),
        ("0 0 30 2 *", "there is no such day in any year"),
        ("0 0 31 4,6,9,11 *", "there is no such day in any year"),
    ],
)
def test_a_bad_expression_is_refused_with_the_place(expression, why):
    with pytest.raises(InvalidCron) as refused:
        written_out(expression)

    assert str(refused.value).startswith(f"The cron expression {expression!r} is not valid")
    assert why in str(refused.value)


def test_a_field_longer_than_its_column_is_refused():
    with pytest.raises(InvalidCron, match="at most 64 fit"):
        written_out("0 0 1 * " + ",".join(["1"] * 40))


# The clock of Berlin: forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00.


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # 02:30 is left out: the run comes when the clock goes on, at 03:00 there.
        ("30 2 * * *", ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]),
        # Two that fall into the hour are one.
        ("0,30 2 * * *", ["2026-03-28 01:00", "2026-03-28 01:30", "2026-03-29 01:00"]),
        ("0 3 * * *", ["2026-03-28 02:00", "2026-03-29 01:00", "2026-03-30 01:00"]),
        ("0 9 * * *", ["2026-03-28 08:00", "2026-03-29 07:00", "2026-03-30 07:00"]),
    ],
)
def test_a_run_in_the_hour_that_is_left_out_comes_right_after_it(expression, expected):
    assert runs(expression, "2026-03-27 23:00", zone="Europe/Berlin") == expected


def test_a_run_in_the_hour_that_comes_twice_comes_once():
    assert runs("30 2 * * *", "2026-10-24 12:00", zone="Europe/Berlin") == [
        "2026-10-25 00:30",
        "2026-10-26 01:30",
        "2026-10-27 01:30",
    ]
    # Also when asked between the two.
    asked = at("2026-10-25 01:10")
    assert next_after("30 2 * * *", "Europe/Berlin", asked) == at("2026-10-26 01:30")


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        ("2026-03-29 00:10", ["2026-03-29 01:00", "2026-03-29 02:00", "2026-03-29 03:00"]),
        ("2026-10-24 23:10", ["2026-10-25 00:00", "2026-10-25 01:00", "2026-10-25 02:00"]),
    ],
)
def test_every_hour_is_every_hour_through_both_changes(begin, expected):
    assert runs("0 * * * *", begin, zone="Europe/Berlin") == expected


def test_a_year_of_runs_in_berlin_has_every_day_once():
    found = [
        at(text).astimezone(dt.timezone(dt.timedelta(hours=1)))
        for text in runs("30 2 * * *", "2026-01-01 12:00", 365, "Europe/Berlin")
    ]

    assert all(b.date() - a.date() == dt.timedelta(days=1) for a, b in pairwise(found))


def test_the_last_run_before_a_moment_is_found_too():
    plain = written_out("0/5 * * * *")

    assert last_until(plain, "UTC", at("2026-01-15 08:07:30")) == at("2026-01-15 08:05")
    assert last_until(plain, "UTC", at("2026-01-15 08:05")) == at("2026-01-15 08:05")
    asked = at("2026-10-25 01:45")
    assert last_until("30 2 * * *", "Europe/Berlin", asked) == at("2026-10-25 00:30")


def test_an_unknown_zone_is_refused():
    assert known_zone("Europe/Berlin") == "Europe/Berlin"
    for wrong in ("Europe/Nowhere", "", "../etc/passwd", None):
        with pytest.raises(InvalidCall, match="There is no time zone"):
            known_zone(wrong)
