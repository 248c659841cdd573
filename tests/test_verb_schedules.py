"""The verb ``schedules``: what it lists, shows and does."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from taskcontrol import schedules
from taskcontrol.models import Schedule, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.factories import make_task
from tests.test_verbs import run, run_badly

pytestmark = pytest.mark.django_db


@pytest.fixture
def nightly():
    return schedules.create(tasks.nothing, cron="0 2 * * *", zone="UTC", name="nightly")


def test_without_schedules_it_says_so():
    assert run("schedules") == "There are no schedules."


def test_the_list_says_when_each_runs_next_and_what_is_wrong(nightly):
    schedules.create(tasks.nothing, every=240, name="off", enabled=False)
    schedules.create(tasks.nothing, every=240, name="wrong")
    PeriodicTask.objects.filter(name="wrong").update(kwargs="[")

    header, first, second, third = run("schedules").splitlines()

    assert header.split() == [
        "Schedule",
        "When",
        "Next",
        "run",
        "Last",
        "run",
        "Runs",
        "Skipped",
    ]
    assert first.startswith("nightly   0 2 * * * (UTC)  2")
    assert "02:00:00 UTC" in first
    assert "every 240 s      disabled" in second
    assert "never: Its arguments are no JSON" in third


def test_one_is_shown_with_its_next_runs_and_what_was_skipped(nightly):
    run("schedules", "skip", "nightly")

    shown = run("schedules", "show", "nightly")

    assert shown.count("02:00:00 UTC") == 5 + 1
    assert "does     tests.tasks.nothing" in shown
    assert "skipped  1 run\n           skipped the run of" in shown


def test_a_script_reads_them_as_json(nightly):
    (told,) = json.loads(run("schedules", "--json"))

    assert told["name"] == "nightly"
    assert told["enabled"] is True
    assert len(told["next_runs"]) == 5


def test_run_makes_a_task_and_refuses_a_second_one(nightly):
    told = run("schedules", "run", "nightly")

    task = TaskLog.objects.get()
    assert told == f"nightly: made task {task.pk}"
    status, told = run_badly("schedules", "run", "nightly")
    assert status == 1
    assert f"its task {task.pk} is still Pending" in told


def test_several_are_switched_at_once_and_one_that_is_not_there_stops_none(nightly):
    status, told = run_badly("schedules", "disable", "nothing", "nightly")

    assert status == 1
    assert "There is no schedule 'nothing'" in told
    assert "nightly: disabled" in told
    assert Schedule.objects.get().next_run_at is None

    assert "nightly: runs next at 2" in run("schedules", "enable", "nightly")


def test_a_plain_periodic_task_is_adopted():
    every = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(
        name="plain", task="tests.tasks.celery_beside", interval=every
    )
    PeriodicTask.objects.create(
        name="sum", task="tests.tasks.celery_add", interval=every, args="[1, 2]"
    )

    status, told = run_badly("schedules", "adopt", "plain", "sum")

    assert status == 1
    assert "'tests.tasks.celery_beside' is no Celery task of this project" in told
    assert "sum: runs next at 2" in told


def test_an_act_without_a_name_asks_for_one():
    with pytest.raises(CommandError, match="Which schedules"):
        run("schedules", "run")


def test_a_skipped_run_is_told_with_the_task_in_its_way(nightly):
    last = make_task(Status.STARTED)
    Schedule.objects.update(last_task=last)

    shown = run("schedules", "show", "nightly")

    assert f"(task {last.pk})" in shown
