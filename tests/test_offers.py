"""Functions that are called with what they declare, and the refusal of those that cannot be."""

from __future__ import annotations

import re
from functools import partial

import pytest
from celery import shared_task

from taskcontrol import offers
from taskcontrol.exceptions import InvalidCall, MethodNotAllowed

HERE = "tests.test_offers"
FAILURE = {"job": 1, "exc_type": ValueError, "exc_value": "v", "traceback": "t"}


def of_job(job):
    return [job]


def of_nothing():
    return []


def of_some(traceback, exc_type):
    return [exc_type, traceback]


def of_everything(**given):
    return sorted(given)


def of_job_and_more(job, *rest, other=7, **given):
    return [job, rest, other, sorted(given)]


def of_others(job, color, size):
    """Wants what it cannot get."""


def by_place_alone(job, /, exc_type=None):
    return [job, exc_type]


async def later(job):
    """Would never be awaited."""


@shared_task(bind=True)
def celery_task(self, job):
    return [type(self).__name__, job]


class Desk:
    """Has a function of its own."""

    @staticmethod
    def ring(job):
        return ["ring", job]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (of_job, [1]),
        (of_nothing, []),
        (of_some, [ValueError, "t"]),
        (of_everything, ["exc_type", "exc_value", "job", "traceback"]),
        (of_job_and_more, [1, (), 7, ["exc_type", "exc_value", "traceback"]]),
        (Desk.ring, ["ring", 1]),
        (celery_task, ["celery_task", 1]),
        (by_place_alone, [1, ValueError]),
        (f"{HERE}.of_job", [1]),
    ],
    ids=str,
)
def test_a_function_gets_what_it_declares_and_no_more(function, expected):
    path = offers.checked_path("on_failure", function)

    assert offers.call(path, FAILURE) == expected


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "on_success",
            of_others,
            f"on_success: {HERE}.of_others(job, color, size) wants color, size, which it is "
            "not given; it may take job, or fewer.",
        ),
        (
            "on_success",
            of_some,
            f"on_success: {HERE}.of_some(traceback, exc_type) wants exc_type, traceback, "
            "which it is not given; it may take job, or fewer.",
        ),
        (
            "AFTER_JOB",
            of_job,
            f"AFTER_JOB: {HERE}.of_job(job) wants job, which it is not given; it may take "
            "method, kwargs, result, or fewer.",
        ),
        (
            "on_failure",
            f"{HERE}.nobody",
            f"on_failure='{HERE}.nobody' cannot be called: 'tests.test_offers' "
            "has no 'nobody'",
        ),
        ("on_failure", 5, "on_failure=5 cannot be called: it is neither callable nor a"),
        ("on_failure", "print it", "on_failure='print it' cannot be called: "),
        ("on_success", lambda job: job, "cannot be called: "),
        ("on_success", partial(of_job, 1), "cannot be called: "),
        ("on_success", later, "cannot be called: "),
    ],
    ids=str,
)
def test_a_function_that_cannot_be_called_is_refused_with_the_reason(name, value, sentence):
    with pytest.raises(InvalidCall, match=re.escape(sentence)):
        offers.checked_path(name, value)


def test_a_function_that_may_not_run_is_refused():
    with pytest.raises(MethodNotAllowed, match=r"'os\.getpid' may not run"):
        offers.checked_path("on_success", "os.getpid")
