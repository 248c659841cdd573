"""When a schedule runs, said as a person would say it."""

from __future__ import annotations

import pytest

from taskcontrol.cron import written_out
from taskcontrol.screens.cronwords import cron_in_words, in_words

SAID = {
    "* * * * *": "every minute",
    "*/5 * * * *": "every 5 minutes",
    "0/5 9-17 * * mon-fri": "every 5 minutes from 09:00 to 17:55 on Monday to Friday",
    "*/25 * * * *": "at :00, :25 and :50 of every hour",
    "30 3 * * *": "at 03:30 every day",
    "@daily": "at 00:00 every day",
    "0 * * * *": "every hour",
    "5 * * * *": "every hour at :05",
    "5,20,35 * * * *": "at :05, :20 and :35 of every hour",
    "0 */2 * * *": "every 2 hours",
    "7 */2 * * *": "every 2 hours at :07",
    "15 */6 * * *": "at 00:15, 06:15, 12:15 and 18:15 every day",
    "0 9-17 * * *": "every hour from 09:00 to 17:00",
    "* 9 * * *": "every minute from 09:00 to 09:59",
    "*/20 8-10 * * *": "every 20 minutes from 08:00 to 10:40",
    "3,9,22,40 1,5 * * *": "at :03, :09, :22 and :40 in the hours of 01:00 and 05:00",
    "3,9,22,40 1-3 * * *": "at :03, :09, :22 and :40 of every hour from 01:03 to 03:40",
    "0 9,12 * * sat,sun": "at 09:00 and 12:00 on Saturday and Sunday",
    "0 0 * * 5-7": "at 00:00 on Friday to Sunday",
    "0 0 * * 0-7": "at 00:00 every day",
    "0 0 1 * *": "at 00:00 on day 1 of the month",
    "0 0 1-5,15 * *": "at 00:00 on days 1 to 5 and 15 of the month",
    "0 0 */2 * *": "at 00:00 on days 1, 3, 5 … 31 of the month",
    "0 0 1 1 *": "at 00:00 on day 1 in January",
    "0 0 28-31 2 *": "at 00:00 on days 28 to 31 in February",
    "0 0 * 3-5,9 *": "at 00:00 every day in March to May and September",
    "0 0 1 * mon": "at 00:00 on day 1 of the month and on Monday",
    "0 0 */10 * mon": "at 00:00 on days 1, 11, 21 and 31 of the month, if that is on Monday",
    "59 23 31 12 *": "at 23:59 on day 31 in December",
}


@pytest.mark.parametrize("cron", SAID)
def test_a_cron_expression_is_said_in_words(cron):
    assert cron_in_words(written_out(cron)) == SAID[cron]


@pytest.mark.parametrize(
    ("timetable", "said"),
    [
        ("every 240 s", "every 4 min"),
        ("every 5400 s, from now on", "every 1 h 30 min, from now on"),
        ("30 3 * * * (Europe/Berlin)", "at 03:30 every day (Europe/Berlin)"),
        ("0 0 * * * (UTC), until then", "at 00:00 every day (UTC), until then"),
        ("once at 2026-11-22 10:00:00 UTC", "once at 2026-11-22 10:00:00 UTC"),
        ("a b c d e (UTC)", "a b c d e (UTC)"),
        ("", ""),
    ],
)
def test_the_text_of_a_timetable_is_said_in_words_or_left(timetable, said):
    assert in_words(timetable) == said
