"""Policies of a call: the call beats the type, the type the site; wrong ones are refused."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from django.db import connection

import taskcontrol
from taskcontrol import tasktypes
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import TaskLog
from tests import tasks
from tests.factories import make_type

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

DOCS = Path(__file__).parent.parent / "docs"
STANDARD = {"factor": 2.0, "max": 3600.0, "jitter": True}

EITHER = (
    'backoff must be True, False or {"factor": 2, "max": 3600, "jitter": True} with any'
)
CLASSES = "must be exception classes or their dotted paths, one or a list, and"
SECONDS = "retry_delay must be seconds or a timedelta"
REFUSED = [
    ({"max_retries": -1}, "max_retries must be a whole number from 0 to 32767, not -1."),
    ({"max_retries": 1.5}, "max_retries must be a whole number from 0 to 32767, not 1.5."),
    (
        {"max_retries": True},
        "max_retries must be a whole number from 0 to 32767, not True.",
    ),
    ({"retry_delay": -1}, SECONDS),
    ({"retry_delay": "60"}, SECONDS),
    ({"retry_delay": float("nan")}, SECONDS),
    ({"retry_delay": dt.timedelta(days=40000)}, SECONDS),
    ({"backoff": 5}, f"{EITHER} of these keys, not 5."),
    ({"backoff": "yes"}, f"{EITHER} of these keys, not 'yes'."),
    ({"backoff": {"first": 1}}, EITHER),
    (
        {"backoff": {"factor": 0}},
        "backoff must be a dict whose 'factor' is from 1 to 100, not 0.",
    ),
    (
        {"backoff": {"max": -1}},
        "backoff must be a dict whose 'max' is seconds or a timedelta, not negative and at "
        "most ten years, not -1.",
    ),
    (
        {"backoff": {"jitter": 0.5}},
        "backoff must be a dict whose 'jitter' is True or False, not 0.5.",
    ),
    ({"retry_on": "os.Nothing"}, f"retry_on {CLASSES} 'os.Nothing' is none."),
    ({"retry_on": [ValueError, int]}, f"retry_on {CLASSES} <class 'int'> is none."),
    ({"retry_on": ValueError("x")}, f"retry_on {CLASSES} ValueError('x') is none."),
    ({"discard_on": 5}, f"discard_on {CLASSES} 5 is none."),
    ({"discard_on": ["os.getpid"]}, f"discard_on {CLASSES} 'os.getpid' is none."),
    ({"atomic": "perhaps"}, "atomic must be True or False, not 'perhaps'."),
]


def stored(**options):
    return taskcontrol.enqueue(tasks.nothing, **options)


@pytest.mark.parametrize(("options", "sentence"), REFUSED, ids=str)
def test_a_wrong_policy_is_refused_with_a_sentence(options, sentence):
    with pytest.raises(InvalidCall, match=re.escape(sentence)):
        stored(**options)

    assert not TaskLog.objects.exists()


@pytest.mark.parametrize(("options", "sentence"), REFUSED, ids=str)
def test_a_wrong_policy_is_refused_in_a_declaration_too(options, sentence):
    with pytest.raises(InvalidCall, match=re.escape(sentence)):
        taskcontrol.declare_type("tests.tasks.nothing", **options)


def test_what_is_as_usual_takes_no_room():
    assert stored().options == {}
    assert stored(backoff=False, atomic=False, discard_on=[]).options == {}


def test_policies_are_stored_complete_and_by_name():
    task = stored(
        max_retries=3,
        retry_delay=dt.timedelta(minutes=1),
        backoff=True,
        retry_on=[ConnectionError, "django.db.OperationalError"],
        discard_on=KeyError,
    )

    assert (task.max_retries, task.retry_delay) == (3, 60)
    assert task.options == {
        "backoff": STANDARD,
        "retry_on": ["builtins.ConnectionError", "django.db.utils.OperationalError"],
        "discard_on": ["builtins.KeyError"],
    }


def test_an_empty_list_to_retry_on_is_not_the_same_as_none():
    assert stored(retry_on=[]).options == {"retry_on": []}


def test_the_call_beats_the_type():
    make_type(
        "tests.tasks.nothing",
        max_retries=5,
        retry_delay=7,
        backoff=STANDARD,
        retry_on=["builtins.KeyError"],
        discard_on=["builtins.ValueError"],
    )

    as_the_type_says, otherwise = (
        stored(),
        stored(
            max_retries=0, retry_delay=0, backoff=False, retry_on=OSError, discard_on=[]
        ),
    )

    assert (as_the_type_says.max_retries, as_the_type_says.retry_delay) == (5, 7)
    assert as_the_type_says.options == {
        "backoff": STANDARD,
        "retry_on": ["builtins.KeyError"],
        "discard_on": ["builtins.ValueError"],
    }
    assert (otherwise.max_retries, otherwise.retry_delay) == (0, 0)
    assert otherwise.options == {"retry_on": ["builtins.OSError"]}


def test_a_task_keeps_the_policies_of_its_call():
    task = stored(max_retries=1)
    make_type("tests.tasks.nothing", max_retries=9, backoff=STANDARD)
    tasktypes.forget()

    task.refresh_from_db()
    assert (task.max_retries, task.options) == (1, {})


REFUSALS = re.findall(
    r"^\| `(.+?)` \| `(.+)` \|$",
    (DOCS / "retries.md").read_text(encoding="utf-8").partition("## What is refused")[2],
    re.MULTILINE,
)


@pytest.mark.parametrize(("call", "sentence"), REFUSALS)
def test_a_refusal_says_what_the_page_says(call, sentence):
    with pytest.raises(InvalidCall, match=re.escape(sentence)):
        stored(**eval(f"dict({call})"))


def test_the_page_has_refusals():
    assert len(REFUSALS) >= 4


# One transaction


@pytest.mark.only_on("postgresql", "mysql")
def test_the_call_beats_the_type_and_the_type_the_site_in_atomic(conf):
    assert stored(atomic=True).options == {"atomic": True}
    make_type("tests.tasks.nothing", atomic=True)
    tasktypes.forget()
    assert stored().options == {"atomic": True}
    assert stored(atomic=False).options == {}

    conf(ATOMIC=True)
    assert taskcontrol.enqueue(tasks.give_back).options == {"atomic": True}
    make_type("tests.tasks.give_back", atomic=False)
    tasktypes.forget()
    assert taskcontrol.enqueue(tasks.give_back).options == {}


@pytest.mark.only_on("sqlite")
def test_atomic_is_refused_on_sqlite_with_what_to_do(conf):
    with pytest.raises(InvalidCall, match="every other task and request would wait for it"):
        stored(atomic=True)
    conf(ATOMIC=True)
    with pytest.raises(InvalidCall, match="atomic=True is refused on SQLite"):
        stored()

    assert stored(atomic=False).options == {}
    assert connection.vendor == "sqlite"
