"""``watchers.py``: who is told of each task by Celery is not kept in the dark by the deck."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
from celery import signals
from celery.app import trace

from taskcontrol.watchers import OF_A_RUN, wants_events, who_watches

#: No database is asked.
pytestmark = pytest.mark.only_on("sqlite")


def watch(**_signal):
    """Tell somebody."""


def test_what_celery_and_we_ourselves_connect_is_nobody():
    assert signals.task_prerun.receivers
    assert who_watches() == ""


@pytest.mark.parametrize("signal", OF_A_RUN, ids=lambda signal: signal.name)
def test_a_receiver_of_a_signal_of_celery_is_named(signal):
    signal.connect(watch)
    try:
        assert who_watches() == f"{__name__}, a receiver of Celery's {signal.name}"
    finally:
        signal.disconnect(watch)
    assert who_watches() == ""


def test_a_receiver_without_a_module_of_its_own_counts():
    receiver = functools.partial(watch)
    signals.task_success.connect(receiver, weak=False)
    try:
        assert who_watches().startswith("functools, ")
    finally:
        signals.task_success.disconnect(receiver)


@pytest.mark.parametrize("name", ["build_tracer", "trace_task"])
def test_who_replaces_the_tracer_of_celery_is_named(monkeypatch, name):
    def replacement(*args, **options):
        return None

    monkeypatch.setattr(trace, name, replacement)

    assert who_watches() == f"{__name__}, which has replaced Celery's {name}"


def test_a_wrapper_that_takes_the_name_of_the_tracer_is_seen(monkeypatch):
    class Wrapper:
        __module__ = trace.__name__

    monkeypatch.setattr(trace, "build_tracer", Wrapper())

    assert who_watches()


@pytest.mark.parametrize(
    ("enabled", "groups", "wanted"),
    [
        (True, set(), True),
        (True, {"worker", "task"}, True),
        (True, {"worker"}, False),
        (False, set(), False),
    ],
)
def test_events_of_tasks_are_wanted_with_dash_e_or_when_asked_for(enabled, groups, wanted):
    assert wants_events(SimpleNamespace(enabled=enabled, groups=groups)) is wanted


def test_a_worker_that_is_not_connected_sends_no_events():
    assert not wants_events(None)
