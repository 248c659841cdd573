"""Errors read back from what is stored of them, also from bodies that wrote nasty ones."""

from __future__ import annotations

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from taskcontrol.exceptions import TimedOut, WorkerLost
from taskcontrol.text import describe
from taskcontrol.tolderrors import error_of
from tests.test_execution import ERRORS, Own, raising


class Shop:
    """Holds an error class."""

    class Closed(Exception):
        """Is known by a longer name."""


def stored(error):
    """Return the text of an error that was raised."""
    return stored_of(raising(error))


def stored_of(body):
    """Return the text of what ``body`` raises, empty if it raises nothing."""
    try:
        body()
    except BaseException as caught:  # noqa: BLE001 - the point
        return describe(caught)
    return ""


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (ValueError("no"), ValueError, "no"),
        (KeyError("x"), KeyError, "'x'"),
        (ValueError(), ValueError, ""),
        (ValueError("a: b\n  and\n\nmore: c"), ValueError, "a: b\n  and\n\nmore: c"),
        (Shop.Closed("at noon"), Shop.Closed, "at noon"),
        (Own("base"), Own, "base"),
    ],
    ids=repr,
)
def test_an_error_is_read_back_with_its_class_and_what_it_said(error, kind, said):
    text = stored(error)

    assert error_of(text) == (kind, said, text)


def test_the_last_of_a_chain_is_meant():
    error = ValueError("the effect")
    error.__cause__ = KeyError("the cause")

    assert error_of(stored(error))[:2] == (ValueError, "the effect")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("WorkerLost: its process is gone.", WorkerLost, "its process is gone."),
        ("shop.gone.Error: no", Exception, "no"),
        ("os.path: no", Exception, "no"),
        ("something else was written", Exception, "something else was written"),
        ("", Exception, ""),
        ("Traceback (most recent call last):\n", Exception, ""),
    ],
)
def test_what_is_no_class_here_is_an_exception(text, kind, said):
    assert error_of(text) == (kind, said, text)


def test_a_time_limit_is_ours():
    text = f"{stored(SoftTimeLimitExceeded())}\nTimedOut: {TimedOut(5)}"

    assert error_of(text, "timed out") == (TimedOut, str(TimedOut(5)), text)


@pytest.mark.parametrize("name", ERRORS)
def test_the_nastiest_error_is_read_back_somehow(name):
    text = stored_of(ERRORS[name][0])

    kind, said, traceback = error_of(text)

    assert issubclass(kind, BaseException)
    assert isinstance(said, str)
    assert traceback == text
