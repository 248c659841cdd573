"""What errors mean: reasons, and whether and when the next attempt is due."""

from __future__ import annotations

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from taskcontrol.exceptions import Discard, MethodNotFound, Retry, TimedOut
from taskcontrol.failures import delay_before_retry, failure_of, forced_timeout
from taskcontrol.models import TaskLog


class ApiError(Exception):
    pass


class ApiGone(ApiError):
    pass


HERE = "tests.test_failures"


def verdict(error, **options):
    row = TaskLog(pk=1, timeout=5, retry_delay=7, max_retries=9, options=options)
    failure = failure_of(row, error)
    return failure["reason"], failure["retry_in"]


class Mute(Discard):
    def __str__(self):
        raise RuntimeError


def test_a_discard_without_a_text_is_a_discard():
    reason, retry_in = verdict(Mute())

    assert (reason, retry_in) == (
        "discarded: <Mute whose text cannot be had: RuntimeError>",
        None,
    )


@pytest.mark.parametrize(
    ("error", "options", "expected"),
    [
        (ValueError(), {}, ("", 7)),
        (ApiGone(), {"retry_on": [f"{HERE}.ApiError"]}, ("", 7)),
        (
            KeyError("x"),
            {"retry_on": [f"{HERE}.ApiError"]},
            ("not retried: KeyError is not in retry_on", None),
        ),
        (
            ApiGone(),
            {"retry_on": [f"{HERE}.ApiError"], "discard_on": [f"{HERE}.ApiGone"]},
            ("discarded: ApiGone is in discard_on", None),
        ),
        (ApiError(), {"discard_on": [f"{HERE}.ApiGone"]}, ("", 7)),
        (ApiError(), {"retry_on": []}, ("not retried: ApiError is not in retry_on", None)),
        # What the body asks for outright beats the lists.
        (Retry(30), {"discard_on": ["builtins.Exception"]}, ("", 30)),
        (
            Discard("no use"),
            {"retry_on": ["builtins.Exception"]},
            ("discarded: no use", None),
        ),
        # A time limit is TimedOut in the lists.
        (SoftTimeLimitExceeded(), {}, ("timed out", 7)),
        (
            SoftTimeLimitExceeded(),
            {"retry_on": ["taskcontrol.exceptions.TimedOut"]},
            ("timed out", 7),
        ),
        (SoftTimeLimitExceeded(), {"retry_on": ["builtins.KeyError"]}, ("timed out", None)),
        # The body never began: what it raises says nothing.
        (MethodNotFound("a.b", "why"), {"retry_on": []}, ("unknown method", 7)),
    ],
    ids=str,
)
def test_the_policies_say_what_is_retried(error, options, expected):
    assert verdict(error, **options) == expected


def test_a_body_that_is_ended_by_force_is_judged_as_timed_out():
    row = TaskLog(timeout=5, retry_delay=7, options={})
    assert forced_timeout(row)["retry_in"] == 7

    row.options = {"discard_on": ["taskcontrol.exceptions.TimedOut"]}
    assert forced_timeout(row)["retry_in"] is None


def test_delays_grow_with_the_number_of_retries():
    backoff = {"factor": 3.0, "max": 600.0, "jitter": False}
    rows = [
        TaskLog(retry_delay=30, retry_count=made, options={"backoff": backoff})
        for made in range(5)
    ]

    assert [delay_before_retry(row) for row in rows] == [30, 90, 270, 600, 600]


def test_a_class_is_judged_by_where_it_is_defined():
    assert verdict(TimedOut(1), retry_on=["builtins.TimeoutError"])[1] is None


def test_a_body_that_is_refused_memory_says_so_and_is_retried_as_any_other():
    assert verdict(MemoryError()) == ("out of memory", 7)
    listed = {"discard_on": ["builtins.MemoryError"]}
    assert verdict(MemoryError(), **listed) == (
        "discarded: MemoryError is in discard_on",
        None,
    )
