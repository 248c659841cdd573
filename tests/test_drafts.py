"""What a call says is checked at once: each option has a sentence for what it does not take."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from taskcontrol.enqueueing import bulk_enqueue, enqueue
from taskcontrol.models import TaskLog
from taskcontrol.shorthands import bulk_enqueue_safe
from taskcontrol.signature import FLAGS, OPTIONS
from tests import tasks

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

#: No database can write it in every time zone.
FAR = dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-5)))
NAIVE = dt.datetime(2027, 1, 1)  # noqa: DTZ001 - the point
#: Parts of a document, and what is missing.
HALVES: list[tuple[dict[str, Any], str]] = [
    ({"document_type": "tests.Counter"}, "document_name and document_action are"),
    ({"document_name": 1}, "document_type and document_action are"),
    ({"document_action": "x"}, "document_type and document_name are"),
    ({"document_type": "tests.Counter", "document_name": 1}, "document_action is"),
]
#: What is wrong, and the sentence that says so.
SENTENCES: list[tuple[dict[str, Any], str]] = [
    (
        {"queue": "fast"},
        "Unknown queue 'fast'; TASKCONTROL[\"QUEUES\"] has: default, long, short.",
    ),
    (
        {"timeout": 0},
        "timeout must be from 1 second to ten years (a number or a timedelta), not 0.",
    ),
    ({"max_retries": -1}, "max_retries must be a whole number from 0 to 32767, not -1."),
    (
        {"retry_delay": -1},
        "retry_delay must be seconds or a timedelta, not negative and at most ten years: -1.",
    ),
    (
        {"retry_on": 5},
        "retry_on must be exception classes or their dotted paths, one or a list, and 5 is none.",
    ),
    (
        {"discard_on": "a.b"},
        "discard_on must be exception classes or their dotted paths, and the module of 'a.b' cannot be imported here (ModuleNotFoundError: No module named 'a').",
    ),
    (
        {"backoff": 5},
        'backoff must be True, False or {"factor": 2, "max": 3600, "jitter": True} with any of these keys, not 5.',
    ),
    ({"atomic": "yes"}, "atomic must be True or False, not 'yes'."),
    (
        {"priority": 5000},
        "priority must be a whole number from -1000 to 1000 (higher goes first), not 5000.",
    ),
    (
        {"run_at": NAIVE},
        "run_at=datetime.datetime(2027, 1, 1, 0, 0) has no time zone; use django.utils.timezone.now() + ... or timezone.make_aware().",
    ),
    ({"run_at": 5}, "run_at must be a datetime or a timedelta, not 5."),
    (
        {"expires": dt.timedelta(days=9999)},
        "expires must lie within ten years, not datetime.timedelta(days=9999).",
    ),
    ({"after": "no"}, "There is no task 'no'; it may have been pruned."),
    ({"batch_id": "b" * 141}, "batch_id is 141 characters long; at most 140 fit."),
    (
        {"batch_order": "1"},
        "batch_order must be a whole number from -2147483647 to 2147483647, not '1'.",
    ),
    ({"event": "e" * 141}, "event is 141 characters long; at most 140 fit."),
    ({"job_id": "a\0"}, "job_id='a\\x00' holds characters that no database takes."),
    (
        {"deduplicate": True},
        "deduplicate=True needs a key: give job_id=, or a job_name= that is the same for the same work.",
    ),
    (
        {"on_duplicate": "x", "job_id": "j"},
        "on_duplicate must be one of skip, return, replace, trailing, not 'x'.",
    ),
    (
        {"on_success": 5},
        "on_success=5 cannot be called: it is neither callable nor a dotted path.",
    ),
    (
        {"on_failure": 5},
        "on_failure=5 cannot be called: it is neither callable nor a dotted path.",
    ),
    ({"created_by": "bob"}, "created_by must be a saved user or None, not 'bob'."),
    ({"arguments": [1]}, "arguments must be a dict of names and values, not [1]."),
    ({"arguments": ""}, "arguments must be a dict of names and values, not ''."),
    ({"arguments": {1: 1}}, "The name of an argument is a text, not 1."),
    ({"job_id": ["a"]}, "job_id must be a text, not ['a']."),
    ({"batch_id": True}, "batch_id must be a text, not True."),
    *(
        ({name: FAR}, f"{name} must lie in the years 1971 to 9998, not {FAR!r}.")
        for name in ("run_at", "expires")
    ),
    (
        {"call_whitelisted_function": True},
        "'tests.tasks.nothing' may not be called safely: there is no function of this name that is decorated with @taskcontrol.whitelist.",
    ),
    *(({name: "no"}, f"{name} must be True or False, not 'no'.") for name in FLAGS),
    (
        {"method": None},
        "enqueue() needs a method: a function or its dotted path; or document_type, document_name and document_action.",
    ),
    *(
        (
            {"method": None, **given},
            "An action on a document needs document_type, document_name and document_action; "
            f"{missing} missing. With a method, type and name alone are a link.",
        )
        for given, missing in HALVES
    ),
]


@pytest.mark.parametrize("number", range(len(SENTENCES)))
def test_a_wrong_option_is_refused_with_its_sentence(number):
    wrong, sentence = SENTENCES[number]
    with pytest.raises((ValueError, LookupError, PermissionError)) as refused:
        enqueue(**{"method": tasks.nothing, **wrong})

    assert str(refused.value) == sentence
    assert not TaskLog.objects.exists()


def test_every_option_has_such_a_sentence():
    refused = {name for wrong, _ in SENTENCES for name in wrong}

    # A label takes anything, and what does not fit is cut.
    assert OPTIONS - refused == {"job_name"}


@pytest.mark.parametrize("name", sorted(OPTIONS - {"created_by"}))
def test_none_means_not_said(name):
    row = enqueue(tasks.nothing, **{name: None})

    assert row.status == "Pending"
    usual = enqueue(tasks.nothing)
    free = {"id", "position", "created_at"}
    for field in TaskLog._meta.concrete_fields:
        if field.name not in free:
            assert getattr(row, field.attname) == getattr(usual, field.attname)


def test_an_empty_name_of_a_batch_is_no_batch():
    assert enqueue(tasks.nothing, batch_id="").batch_id is None


@pytest.mark.parametrize("value", [True, False])
def test_every_task_is_tracked_whatever_a_call_says(value):
    assert enqueue(tasks.nothing, track_job=value).pk


def test_events_are_stored_and_found():
    nightly = enqueue(tasks.nothing, event="nightly")
    enqueue(tasks.nothing, event="hourly")

    assert TaskLog.objects.get(event="nightly") == nightly


@pytest.mark.only_on("sqlite")
def test_one_transaction_for_body_and_end_is_refused_on_sqlite_with_the_reason():
    with pytest.raises(ValueError, match="hold the lock of the only writer"):
        enqueue(tasks.nothing, atomic=True)


@pytest.mark.parametrize("call", [bulk_enqueue, bulk_enqueue_safe])
@pytest.mark.parametrize("tasks_given", [None, 5, "a.b", {"method": "a.b"}])
def test_a_bulk_that_is_none_says_what_it_takes(tasks_given, call):
    with pytest.raises(
        ValueError, match=r"takes an iterable of dicts, .*, not "
    ) as refused:
        call(tasks_given)

    assert repr(tasks_given) in str(refused.value)


def test_a_bulk_says_the_same_sentences_and_which_task_it_was():
    with pytest.raises(ValueError, match="paused must be True or False") as refused:
        bulk_enqueue([{}, {"paused": "no"}], method=tasks.nothing)

    assert refused.value.__notes__ == [
        "This was task 1 of bulk_enqueue; nothing was stored."
    ]
    with pytest.raises(ValueError, match="now must be True or False"):
        bulk_enqueue([{}], method=tasks.nothing, now="no")


def test_a_bulk_refuses_names_that_are_no_texts_and_another_batch():
    with pytest.raises(ValueError, match="The name of an argument is a text, not 1"):
        bulk_enqueue([{1: 1}], method=tasks.nothing)
    with pytest.raises(
        ValueError, match="bulk_enqueue stores one batch, 'a', and this task"
    ):
        bulk_enqueue([{"batch_id": "b"}], "a", method=tasks.nothing)
    assert bulk_enqueue([{"batch_id": 5}], 5, method=tasks.nothing) == "5"


def test_a_full_queue_refuses_nothing_that_does_not_wait(conf):
    conf(MAX_QUEUED_JOBS=1)
    enqueue(tasks.nothing)
    assert enqueue(tasks.nothing, now=True).status == "Finished"
