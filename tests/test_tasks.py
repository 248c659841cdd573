"""The Celery tasks have fixed names and do what their rooms do."""

from __future__ import annotations

import pytest
from celery import current_app
from django.conf import settings
from kombu.utils.imports import symbol_by_name

from taskcontrol import announcing, beating, broker, lifecycle, schedules, tasks
from taskcontrol.context import without_user_code
from taskcontrol.held import Sturdy
from taskcontrol.models import Schedule, TaskLog
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_worker, seconds_ago

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("broker"),
]

NAMES = {
    "taskcontrol.run",
    "taskcontrol.deliver",
    "taskcontrol.dispatch",
    "taskcontrol.retry_failed",
    "taskcontrol.resend",
    "taskcontrol.rescue",
    "taskcontrol.prune",
    "taskcontrol.roll_up",
    "taskcontrol.schedules",
    "taskcontrol.enqueue",
}
#: Sent for one task or one schedule, and not by an entry of beat.
SENT_SINGLY = {broker.RUN, broker.DELIVER, broker.ENQUEUE}


def call(name):
    return current_app.tasks[name].apply().get()


def test_the_names_are_those_that_messages_carry():
    registered = {name for name in current_app.tasks if name.startswith("taskcontrol.")}

    assert registered == NAMES
    for name in NAMES:
        assert issubclass(symbol_by_name(current_app.tasks[name].Request), Sturdy)
    assert SENT_SINGLY < NAMES
    assert all(current_app.tasks[name].ignore_result for name in NAMES)
    assert tasks.run.acks_late is False


def test_beat_calls_what_there_is_and_nothing_waits_longer_than_its_interval():
    entries = settings.CELERY_BEAT_SCHEDULE.values()

    assert {entry["task"] for entry in entries} == NAMES - SENT_SINGLY
    for entry in entries:
        assert entry["options"]["expire_seconds"] <= entry["schedule"]


def test_a_pass_from_beat_is_its_sign_of_life_p11():
    make_worker()
    make_task()
    assert beating.beat_is_silent() is True

    assert call("taskcontrol.dispatch") == 1

    assert beating.beat_is_silent() is False


def test_each_sweep_is_called():
    dispatcher_state()
    worker = make_worker()
    lost = make_worker(last_seen_at=seconds_ago(60))
    make_task(Status.FAILED, max_retries=1, retry_at=seconds_ago(1))
    sent = make_task(Status.QUEUED, sent_at=seconds_ago(60))
    make_task(Status.STARTED, worker=lost)
    make_task(Status.FINISHED, ended_at=seconds_ago(10**8), worker=worker)

    found = {name: call(f"taskcontrol.{name}") for name in ("retry_failed", "resend")}
    make_task(Status.FINISHED, ended_at=seconds_ago(200))
    found |= {name: call(f"taskcontrol.{name}") for name in ("rescue", "roll_up", "prune")}

    assert found == {"retry_failed": 1, "resend": 1, "rescue": 1, "roll_up": 1, "prune": 1}
    assert TaskLog.objects.get(pk=sent.pk).sent_count == 1


def test_stored_news_are_delivered(news):
    task = make_task()
    with without_user_code():
        lifecycle.pause(task.pk)
    assert announcing.has_stored()

    assert call("taskcontrol.deliver") == 1

    assert [one.new for one in news] == [Status.PAUSED]


def test_the_runner_runs_what_it_claims_and_nothing_else(record):
    task = make_task(Status.QUEUED, method="tests.tasks.recorded")

    for attempt in (2, 1, 1):
        tasks.run.apply(args=(task.pk, attempt))

    assert record.starts() == {(task.pk, 1): 1}
    assert TaskLog.objects.get().status == Status.FINISHED


def test_what_beat_sends_for_a_schedule_fires_what_is_due_and_no_more():
    one = schedules.create("tests.tasks.nothing", every=86400, name="daily")
    arguments = {"method": "tests.tasks.nothing"}
    assert current_app.tasks["taskcontrol.enqueue"].apply(kwargs=arguments).get() == 0

    Schedule.objects.filter(pk=one.pk).update(next_run_at=seconds_ago(1))
    assert current_app.tasks["taskcontrol.enqueue"].apply(kwargs=arguments).get() == 1
    assert call("taskcontrol.schedules") == 0
