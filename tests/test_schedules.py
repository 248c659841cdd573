"""Schedules: made in code or by hand, fired once for each time, by whoever looks first."""

from __future__ import annotations

import datetime as dt
import json
import logging
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import Permission
from django.db.models import F
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

import taskcontrol
from taskcontrol import dialect, firing, schedulerows, schedules, timekeeping
from taskcontrol.context import acting_as
from taskcontrol.exceptions import (
    InvalidCall,
    MethodNotAllowed,
    NotPermitted,
    ScheduleNotFound,
)
from taskcontrol.firing import fire_due_schedules
from taskcontrol.models import Schedule, TaskLog
from taskcontrol.status import Status
from taskcontrol.systemuser import scheduler_user
from tests import tasks
from tests.factories import make_task, make_user, seconds_ago
from tests.models import Paper
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

METHOD = "tests.tasks.give_back"
HOUR = dt.timedelta(hours=1)
#: No time of its own passes while a test runs.
SELDOM = 10 * 365 * 86400


def make(method=tasks.give_back, **options):
    if not {"cron", "every", "at"} & options.keys():
        options["every"] = SELDOM
    return schedules.create(method, **options)


def make_due(schedule, ago=5.0, **columns):
    """Let the next run of a schedule have been so many seconds ago."""
    at = dialect.now("default") - dt.timedelta(seconds=ago)
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=at, **columns)
    schedule.refresh_from_db()
    return schedule


def fresh(schedule):
    return Schedule.objects.get(pk=schedule.pk)


def periodic(schedule):
    return PeriodicTask.objects.get(pk=schedule.periodic_id)


def runs():
    return list(TaskLog.objects.exclude(schedule="").order_by("pk"))


def end(row, status=Status.FINISHED):
    """Let a task have ended."""
    TaskLog.objects.filter(pk=row.pk).update(
        status=status, ready_lane=None, ended_at=seconds_ago(1), started_at=seconds_ago(2)
    )


# Making one


def test_an_action_of_a_document_may_be_scheduled():
    paper = Paper.objects.create(title="Minutes")
    one = make_due(make(None, document_type=paper, document_action="submit"))
    assert one.name == f"tests.Paper {paper.pk} submit"
    assert one.method == "tests.Paper.submit"

    assert fire_due_schedules() == 1

    (task,) = runs()
    assert (task.document_type, task.document_name) == ("tests.Paper", str(paper.pk))


def test_functions_and_classes_are_stored_by_their_paths():
    one = make(
        value=None,
        on_failure=tasks.nothing,
        retry_on=[ConnectionError],
        max_retries=1,
        timeout=dt.timedelta(minutes=2),
    )

    call = json.loads(periodic(one).kwargs)
    assert call["on_failure"] == "tests.tasks.nothing"
    assert call["retry_on"] == ["builtins.ConnectionError"]
    make_due(one)
    assert fire_due_schedules() == 1
    assert runs()[0].timeout == 120
    assert runs()[0].arguments == {"value": None}


def test_a_schedule_from_code_is_a_row_of_the_beat_that_people_edit():
    one = make(
        cron="0/5 * * * *",
        zone="Europe/Berlin",
        name="Reconcile",
        queue="long",
        timeout=600,
        arguments={"value": dt.date(2026, 1, 2)},
        description="every five minutes",
    )

    row = periodic(one)
    assert (row.name, row.task, row.enabled) == ("Reconcile", "taskcontrol.enqueue", True)
    assert row.crontab.minute == "0-59/5"
    assert str(row.crontab.timezone) == "Europe/Berlin"
    assert json.loads(row.kwargs)["method"] == METHOD
    assert one.timetable == "0-59/5 * * * * (Europe/Berlin)"
    assert one.next_run_at.minute % 5 == 0
    assert one.next_run_at > timezone.now() - dt.timedelta(seconds=1)
    assert (one.method, one.enabled, one.error) == (METHOD, True, "")


def test_the_task_of_a_run_says_what_it_is_for():
    one = make(
        name="Reconcile",
        queue="long",
        timeout=77,
        arguments={"value": [dt.date(2026, 1, 2)]},
        scheduled_against="Process Payment Reconciliation",
        max_retries=2,
    )
    due = make_due(one).next_run_at

    assert fire_due_schedules() == 1

    (task,) = runs()
    assert (task.method, task.queue, task.timeout) == (METHOD, "long", 77)
    assert (task.schedule, task.max_retries) == ("Reconcile", 2)
    assert task.event == "Process Payment Reconciliation"
    assert task.run_at == due
    assert task.status == Status.PENDING
    assert task.ready_lane == task.lane
    one = fresh(one)
    assert (one.last_task, one.run_count, one.skipped_count) == (task, 1, 0)
    assert one.next_run_at > timezone.now()


def test_a_new_schedule_never_runs_at_once():
    before = dialect.now("default")
    one = make(cron="0 0 1 1 *", zone="UTC")

    assert one.next_run_at > before
    assert (one.next_run_at.month, one.next_run_at.day, one.next_run_at.hour) == (1, 1, 0)
    assert fire_due_schedules() == 0
    assert runs() == []


def test_intervals_are_aligned_to_the_clock():
    one = make(every=240)

    assert one.next_run_at.timestamp() % 240 == 0
    assert one.timetable == "every 240 s"
    assert make(every=dt.timedelta(hours=2), name="b").next_run_at.timestamp() % 7200 == 0


def test_a_single_time_runs_once_and_is_switched_off():
    at = dialect.now("default") + dt.timedelta(minutes=5)
    one = make(at=at)
    assert one.next_run_at == at

    make_due(one)
    ClockedSchedule.objects.update(clocked_time=fresh(one).next_run_at)
    PeriodicTasks.update_changed()
    Schedule.objects.update(timetable=str(timekeeping.timetable_of(periodic(one))))
    assert fire_due_schedules() == 1

    assert periodic(one).enabled is False
    one = fresh(one)
    assert one.next_run_at is None
    assert fire_due_schedules() == 0
    assert len(runs()) == 1


def test_a_single_time_that_was_used_may_be_given_anew():
    at, later = timezone.now() + HOUR, timezone.now() + 2 * HOUR
    first = make(at=at)
    assert firing.fire(first) == 1

    again = make(at=at)
    assert (again.enabled, again.next_run_at) == (False, None)
    anew = make(at=later)
    assert (anew.pk, anew.enabled, anew.next_run_at) == (first.pk, True, later)


def test_a_single_time_that_was_skipped_may_be_given_anew():
    later = timezone.now() + 2 * HOUR
    schedules.skip_next(make(at=timezone.now() + HOUR))

    anew = make(at=later)
    assert (anew.enabled, anew.next_run_at) == (True, later)


def test_a_single_time_that_a_person_switched_off_stays_off():
    schedules.disable(make(at=timezone.now() + HOUR))

    assert not make(at=timezone.now() + 2 * HOUR).enabled


def test_a_new_single_time_must_be_to_come():
    make(at=timezone.now() + HOUR)

    with pytest.raises(InvalidCall, match="would never run"):
        make(at=timezone.now() - HOUR)


@pytest.mark.parametrize("run_as", ["bob", 999999, get_user_model()()], ids=repr)
def test_a_schedule_runs_as_a_saved_user_or_not_at_all(run_as):
    with pytest.raises(InvalidCall, match="run_as must be a saved user or None"):
        make(every=60, run_as=run_as)

    assert not Schedule.objects.exists()


@pytest.mark.parametrize("every", [float("nan"), float("inf")])
def test_an_interval_that_is_no_number_is_refused(every):
    with pytest.raises(InvalidCall, match="every must be whole seconds"):
        make(every=every)


def test_a_single_time_that_beat_switched_off_before_it_was_fired_runs_all_the_same():
    one = make(at=dialect.now("default") + dt.timedelta(minutes=5))
    make_due(one)
    ClockedSchedule.objects.update(clocked_time=fresh(one).next_run_at)
    Schedule.objects.update(timetable=str(timekeeping.timetable_of(periodic(one))))
    PeriodicTask.objects.update(enabled=False)

    assert fire_due_schedules() == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"cron": "61 * * * *"}, "'61 * * * *' is not valid: the minute 61"),
        ({}, "exactly one of cron="),
        ({"cron": "* * * * *", "every": 60}, "exactly one of cron="),
        ({"every": 0.5}, "every must be whole seconds, from 1 to ten years, not 0.5"),
        ({"every": 0}, "every must be whole seconds"),
        ({"every": True}, "every must be seconds or a timedelta"),
        ({"every": 60, "zone": "UTC"}, "zone= belongs to cron="),
        ({"cron": "* * * * *", "zone": "Mars/City"}, "There is no time zone 'Mars/City'"),
        (
            {"at": seconds_ago(-60).replace(tzinfo=None)},
            "at must be a datetime with a time zone",
        ),
        ({"at": dt.datetime(2020, 1, 1, tzinfo=dt.UTC)}, "would never run: once at 2020"),
        ({"every": 60, "on_missed": "never"}, "on_missed must be one of skip, once, all"),
        ({"every": 60, "enabled": "yes"}, "enabled must be True or False"),
        ({"every": 60, "queue": "nope"}, "Unknown queue 'nope'"),
        ({"every": 60, "wrong": 1}, "cannot be called with the arguments wrong"),
        ({"every": 60, "run_at": timezone.now()}, "A schedule takes no run_at="),
        ({"every": 60, "created_by": None}, "A schedule takes no created_by="),
        ({"every": 60, "arguments": {"value": object()}}, "cannot be stored"),
        ({"every": 60, "name": "x" * 201}, "name is 201 characters long; at most 200 fit"),
        ({"every": 60, "scheduled_against": "x" * 141}, "at most 140 fit"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused_when_it_is_made(given, sentence):
    with pytest.raises(InvalidCall) as refused:
        schedules.create(METHOD, **given)

    assert sentence in str(refused.value)
    assert not PeriodicTask.objects.filter(task="taskcontrol.enqueue").exists()


def test_a_method_that_may_not_run_is_refused_when_the_schedule_is_made():
    with pytest.raises(MethodNotAllowed):
        schedules.create("os.system", every=60)
    with pytest.raises(InvalidCall, match="has no 'nothing_there'"):
        schedules.create("tests.tasks.nothing_there", every=60)
    with pytest.raises(InvalidCall, match="needs a method"):
        schedules.create(every=60)


def test_the_name_of_a_plain_periodic_task_is_not_taken_over():
    interval = IntervalSchedule.objects.create(every=9, period="minutes")
    PeriodicTask.objects.create(name="mine", task="shop.close", interval=interval)

    with pytest.raises(InvalidCall, match=r"already, for the Celery task 'shop\.close'"):
        make(name="mine")


def test_a_model_may_be_what_a_schedule_is_against():
    assert make(scheduled_against=TaskLog).scheduled_against == "taskcontrol.TaskLog"


# Edits, and code that says it again


def test_a_persons_edit_is_kept_when_code_says_it_again():
    make(cron="0 6 * * *", name="report", description="first")
    row = PeriodicTask.objects.get(name="report")
    row.crontab = CrontabSchedule.objects.create(minute="30", hour="7", timezone="UTC")
    row.save()

    one = make(cron="0 8 * * *", name="report", description="second", queue="long")

    assert one.timetable == "30 7 * * * (UTC)"
    row.refresh_from_db()
    assert row.description == "second"
    assert json.loads(row.kwargs)["queue"] == "long"
    assert Schedule.objects.count() == 1


def test_what_nobody_changed_follows_the_code():
    make(cron="0 6 * * *", name="report", on_missed="skip")

    one = make(cron="0 8 * * *", name="report", on_missed="all")

    assert (one.timetable, one.on_missed) == ("0 8 * * * (UTC)", "all")
    assert one.next_run_at.hour == 8


def test_a_schedule_that_a_person_switched_off_stays_off():
    make(name="report")
    schedules.disable("report")

    assert make(name="report", description="new").enabled is False


def test_a_schedule_that_a_person_renamed_is_found_again():
    make(name="report")
    PeriodicTask.objects.filter(name="report").update(name="The report")

    assert make(name="report", every=60).name == "The report"
    assert Schedule.objects.count() == 1


def test_other_rows_keep_the_times_that_they_share():
    first, second = make(every=60, name="a"), make(every=60, name="b")
    assert periodic(first).interval == periodic(second).interval

    make(every=90, name="a")

    assert periodic(second).interval.every == 60


# Rows made and changed by hand


def by_hand(name="by hand", **columns):
    columns.setdefault("kwargs", json.dumps({"method": METHOD, "arguments": {"value": 3}}))
    if not {"crontab", "clocked", "solar", "interval"} & columns.keys():
        columns["interval"] = IntervalSchedule.objects.create(every=1, period="hours")
    return PeriodicTask.objects.create(name=name, task="taskcontrol.enqueue", **columns)


def look():
    """Read the rows as every sweep does; return the schedules by name."""
    timekeeping.keep_time()
    return {one.name: one for one in Schedule.objects.all()}


def test_a_row_made_by_hand_is_a_schedule():
    by_hand()
    one = make_due(look()["by hand"])

    assert fire_due_schedules() == 1

    (task,) = runs()
    assert (task.method, task.arguments, task.schedule) == (METHOD, {"value": 3}, "by hand")
    assert fresh(one).run_count == 1


def test_the_method_may_be_the_positional_argument_and_the_queue_its_column():
    by_hand(args='["tests.tasks.nothing"]', kwargs="{}", queue="short")
    make_due(look()["by hand"])

    assert fire_due_schedules() == 1

    assert [(task.method, task.queue) for task in runs()] == [
        ("tests.tasks.nothing", "short")
    ]


def test_changed_times_set_the_next_run_anew_and_other_changes_do_not():
    row = by_hand()
    Schedule.objects.update(next_run_at=F("next_run_at") + dt.timedelta(minutes=7))
    before = look()["by hand"].next_run_at

    PeriodicTask.objects.update(description="other words")
    assert look()["by hand"].next_run_at == before

    IntervalSchedule.objects.filter(pk=row.interval_id).update(every=2)
    after = look()["by hand"]
    assert after.timetable == "every 7200 s"
    assert (after.next_run_at.minute, after.next_run_at.hour % 2) == (0, 0)


def test_a_schedule_that_is_switched_on_again_waits_for_its_next_time():
    one = make()
    make_due(one)
    schedules.disable(one)
    assert fresh(one).next_run_at is None
    assert fire_due_schedules() == 0

    schedules.enable(one)

    assert fresh(one).next_run_at > timezone.now()
    assert fire_due_schedules() == 0


def test_a_deleted_row_takes_its_schedule_along_and_its_tasks_stay():
    one = make_due(make())
    fire_due_schedules()

    PeriodicTask.objects.filter(pk=one.periodic_id).delete()

    assert look() == {}
    assert len(runs()) == 1


def test_a_bad_row_says_why_and_never_stops_the_others(caplog):
    bad = CrontabSchedule.objects.create(minute="99", timezone="UTC")
    by_hand("bad cron", crontab=bad)
    by_hand("no json", kwargs="{")
    by_hand("no dict", kwargs="[1]")
    by_hand("settled", kwargs=json.dumps({"method": METHOD, "created_by": 1}))
    by_hand(
        "sun", solar=SolarSchedule.objects.create(event="sunrise", latitude=1, longitude=1)
    )
    by_hand("gone", kwargs='{"method": "tests.tasks.nothing_there"}')
    make_due(look()["gone"])
    make_due(make(name="good"))

    assert fire_due_schedules() == 1

    found = {name: one.error for name, one in look().items()}
    assert "the minute 99" in found["bad cron"]
    assert "no JSON" in found["no json"]
    assert "must be those of enqueue()" in found["no dict"]
    assert "takes no created_by=" in found["settled"]
    assert "needs a crontab, an interval or a clocked time" in found["sun"]
    assert "nothing_there" in found["gone"]
    assert found["good"] == ""
    gone = look()["gone"]
    assert gone.next_run_at > timezone.now()
    assert gone.skipped_count == 1
    assert "nothing_there" in gone.skipped_why


def test_a_bad_row_that_was_mended_runs_again():
    bad = CrontabSchedule.objects.create(minute="99", timezone="UTC")
    by_hand("bad", crontab=bad)
    assert look()["bad"].next_run_at is None

    CrontabSchedule.objects.filter(pk=bad.pk).update(minute="9")

    one = look()["bad"]
    assert (one.error, one.next_run_at.minute) == ("", 9)


def test_begin_and_end_of_a_row_hold():
    now = dialect.now("default")
    by_hand("later", start_time=now + 5 * HOUR)
    by_hand("over", expires=now - HOUR)

    found = look()

    assert found["later"].next_run_at >= now + 5 * HOUR
    assert found["over"].next_run_at is None


def test_plain_periodic_tasks_are_none_of_our_business():
    interval = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.create(name="plain", task="shop.close", interval=interval)

    assert look() == {}
    assert fire_due_schedules() == 0
    assert PeriodicTask.objects.get(name="plain").enabled is True


def test_a_change_that_django_sees_counts_at_its_commit(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        row = by_hand()
    assert Schedule.objects.get().next_run_at is not None

    with django_capture_on_commit_callbacks(execute=True):
        row.enabled = False
        row.save()
    assert Schedule.objects.get().next_run_at is None

    row.no_changes = True
    with django_capture_on_commit_callbacks() as callbacks:
        row.save()  # as beat notes its runs
    assert callbacks == []


def test_a_worker_hears_of_what_is_due_and_of_rows_that_changed():
    make()
    timekeeping.anything_due()
    assert timekeeping.anything_due() is False

    PeriodicTasks.update_changed()
    assert timekeeping.anything_due() is True
    assert timekeeping.anything_due() is False

    make_due(Schedule.objects.get())
    assert timekeeping.anything_due() is True


# Plain periodic tasks that become schedules


def plain(task, args="[]", kwargs="{}", **columns):
    every = IntervalSchedule.objects.create(every=10 * 365, period="days")
    return PeriodicTask.objects.create(
        name="plain", task=task, args=args, kwargs=kwargs, interval=every, **columns
    )


def test_a_plain_periodic_task_is_adopted_with_its_times_and_arguments():
    row = plain("tests.tasks.celery_add", "[1]", '{"right": 2}', queue="long")

    one = schedules.adopt("plain")

    row.refresh_from_db()
    assert (row.task, row.queue, row.enabled) == ("taskcontrol.enqueue", None, True)
    assert (one.method, one.timetable) == ("tests.tasks.celery_add", "every 315360000 s")
    assert one.next_run_at > timezone.now()
    make_due(one)
    assert fire_due_schedules() == 1
    (task,) = runs()
    assert (task.queue, task.arguments) == ("long", {"left": 1, "right": 2})
    assert schedules.adopt("plain") == one, "once is enough"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("shop.gone",), "'shop.gone' is no Celery task of this project"),
        (("taskcontrol.prune",), "'taskcontrol.prune' is no Celery task"),
        (("tests.tasks.celery_add", "[1, 2, 3]"), "its arguments do not fit: too many"),
        (("tests.tasks.celery_add", "["), "its arguments do not fit"),
        (("tests.tasks.celery_add", "[1]", '{"right": 2}'), "Unknown queue 'nowhere'"),
    ],
)
def test_what_cannot_be_adopted_is_refused_and_stays(given, sentence):
    row = plain(*given, queue="nowhere")

    with pytest.raises(InvalidCall) as refused:
        schedules.adopt("plain")

    assert sentence in str(refused.value)
    row.refresh_from_db()
    assert (row.task, row.args) == (given[0], (*given, "[]")[1])
    assert not Schedule.objects.exists()


def test_what_is_not_there_cannot_be_adopted():
    with pytest.raises(ScheduleNotFound):
        schedules.adopt("nothing")


# A run whose previous is still there


@pytest.mark.parametrize("status", [Status.PENDING, Status.PAUSED, Status.STARTED])
def test_a_run_is_skipped_on_record_while_the_last_one_is_active(status):
    one = make_due(make())
    last = make_task(status)
    Schedule.objects.update(last_task=last)

    assert fire_due_schedules() == 0

    one = fresh(one)
    assert runs() == []
    assert one.skipped_count == 1
    assert f"task {last.pk} of the last one is still {status}" in one.skipped_why
    assert one.skipped_at is not None
    assert one.next_run_at > timezone.now()


@pytest.mark.parametrize("status", [Status.FINISHED, Status.FAILED, Status.CANCELED])
def test_a_run_follows_when_the_last_one_has_ended(status):
    one = make_due(make())
    Schedule.objects.update(last_task=make_task(status))

    assert fire_due_schedules() == 1
    assert fresh(one).skipped_count == 0


def test_the_last_skipped_runs_are_told_one_by_one():
    make_due(make())
    Schedule.objects.update(last_task=make_task(Status.STARTED))

    for number in range(firing.SKIPS_KEPT + 2):
        one = make_due(Schedule.objects.get(), ago=30 - number)
        assert fire_due_schedules() == 0
        one = fresh(one)
        assert one.skipped_count == number + 1
        assert len(one.skips) == min(number + 1, firing.SKIPS_KEPT)
    assert one.skips[0] > one.skips[1] > one.skips[-1], "the newest first, with its time"


def test_a_failed_run_that_will_be_retried_is_still_active():
    make_due(make())
    due = make_task(Status.FAILED, retry_at=seconds_ago(-60), max_retries=1)
    Schedule.objects.update(last_task=due)

    assert fire_due_schedules() == 0


def test_a_canceled_run_whose_body_is_not_gone_is_still_active():
    make_due(make())
    Schedule.objects.update(last_task=make_task(Status.CANCELED, occupies=True))

    assert fire_due_schedules() == 0


def test_a_run_that_was_pruned_holds_up_nothing():
    make_due(make())
    Schedule.objects.update(last_task=999_999)

    assert fire_due_schedules() == 1


def test_each_run_has_the_key_of_its_schedule():
    one = make_due(make())
    fire_due_schedules()
    (first,) = runs()
    assert first.job_id == f"schedule-{one.pk}"

    # Also when the row knows of no last run, the key keeps two apart.
    make_due(one, last_task=None)
    assert fire_due_schedules() == 0
    assert "another task holds its key" in fresh(one).skipped_why


def test_an_own_key_is_kept_and_a_parameter_of_that_name_is_no_key():
    make_due(make(name="own", job_id="mine", deduplicate=True))
    make_due(make(tasks.takes_job_id, name="parameter", arguments={"job_id": "value"}))

    assert fire_due_schedules() == 2

    assert {task.job_id for task in runs()} == {"mine", None}


# Downtime


def test_after_downtime_the_last_missed_run_is_made_and_the_others_recorded():
    make_due(make(every=60), ago=600)

    assert fire_due_schedules() == 1
    assert fire_due_schedules() == 0

    one = Schedule.objects.get()
    assert 9 <= one.skipped_count <= 10
    assert "missed: nothing ran then" in one.skipped_why
    assert one.next_run_at > timezone.now()


def test_a_schedule_that_skips_what_it_missed_waits_for_its_next_time():
    make_due(make(on_missed="skip"), ago=600)

    assert fire_due_schedules() == 0

    one = Schedule.objects.get()
    assert one.skipped_count == 1
    assert "missed the run of" in one.skipped_why


def test_a_run_that_is_a_little_late_is_not_missed(conf):
    make_due(make(on_missed="skip"), ago=50)
    assert fire_due_schedules() == 1

    conf(SCHEDULE_GRACE=20)
    end(runs()[0])
    make_due(Schedule.objects.get(), ago=50)
    assert fire_due_schedules() == 0


def test_each_missed_run_is_made_one_after_the_other():
    # Half an hour away from now, so that none of them is in time.
    minute = (dialect.now("default") + dt.timedelta(minutes=30)).minute
    one = make(cron=f"{minute} * * * *", on_missed="all")
    make_due(one, ago=3 * 3600)
    due = fresh(one).next_run_at

    for number in range(3):
        assert fire_due_schedules() == 1
        assert fire_due_schedules() == 0, "the next waits for the end of this one"
        assert timekeeping.due().count() == 0
        task = runs()[number]
        assert (
            task.run_at == due if number == 0 else task.run_at > runs()[number - 1].run_at
        )
        end(task)
    assert fresh(one).skipped_count == 0


def test_a_year_of_missed_minutes_is_counted_no_further_than_needed():
    one = make(cron="* * * * *")
    make_due(one, ago=365 * 86400)

    assert fire_due_schedules() == 1

    assert fresh(one).skipped_count == firing.MOST_COUNTED
    assert fresh(one).next_run_at > timezone.now()
    assert runs()[0].run_at > seconds_ago(120)


# The clock of Berlin: forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("2026-03-28 12:00", "2026-03-29 03:00+02:00"),
        ("2026-03-29 12:00", "2026-03-30 02:30+02:00"),
        ("2026-10-24 12:00", "2026-10-25 02:30+02:00"),
        ("2026-10-25 12:00", "2026-10-26 02:30+01:00"),
    ],
)
def test_the_next_run_is_right_through_both_changes_of_the_clock(
    monkeypatch, before, expected
):
    now = dt.datetime.fromisoformat(before).replace(tzinfo=ZoneInfo("Europe/Berlin"))
    monkeypatch.setattr(dialect, "now", lambda using: now)

    one = make(cron="30 2 * * *", zone="Europe/Berlin")

    assert one.next_run_at == dt.datetime.fromisoformat(expected)


# As whom


def test_schedules_run_as_a_user_who_cannot_log_in():
    with acting_as(make_user("anna")):
        make_due(make(tasks.whoami))
        assert fire_due_schedules() == 1

    user = runs()[0].creator
    assert user.get_username() == "taskcontrol-scheduler"
    assert user.has_usable_password() is False
    assert authenticate(username=user.get_username(), password="") is None
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert get_user_model().objects.filter(username="taskcontrol-scheduler").count() == 1


def test_a_safe_call_needs_the_permission_of_the_scheduler_p8():
    make_due(make("greet the user", name="greet", call_whitelisted_function=True))

    assert fire_due_schedules() == 0
    assert "permission 'tests.view_paper' is missing" in Schedule.objects.get().error

    scheduler_user().user_permissions.add(Permission.objects.get(codename="view_paper"))
    make_due(Schedule.objects.get())
    assert fire_due_schedules() == 1
    assert runs()[0].creator == scheduler_user()


def test_the_settings_may_name_the_user(conf):
    robot = make_user("robot")
    conf(SCHEDULER_USER="robot")
    make_due(make())

    fire_due_schedules()

    assert runs()[0].creator == robot


def test_a_user_of_the_settings_who_is_not_there_is_an_error_of_the_schedule(conf):
    conf(SCHEDULER_USER="nobody")
    make_due(make())

    assert fire_due_schedules() == 0
    assert "There is no user 'nobody'" in Schedule.objects.get().error


def test_another_user_is_chosen_by_those_who_may():
    anna, chief = make_user("anna"), make_user("chief", "manage_schedule")

    with pytest.raises(NotPermitted, match="may not make schedules"):
        make(run_as=chief, user=anna)
    make_due(make(run_as=anna, user=chief))
    fire_due_schedules()

    assert runs()[0].creator == anna


def test_who_edits_the_row_of_the_beat_gains_no_other_user():
    one = make(run_as=make_user("anna"))
    PeriodicTask.objects.update(kwargs='{"method": "tests.tasks.nothing"}')
    make_due(one)

    assert fire_due_schedules() == 0

    assert "was changed since it was allowed to run as another user" in fresh(one).error
    assert runs() == []


def test_a_user_who_left_runs_nothing():
    anna = make_user("anna")
    one = make_due(make(run_as=anna))
    anna.is_active = False
    anna.save()

    assert fire_due_schedules() == 0
    assert "deleted or is no longer active" in fresh(one).error


# Run now, skip, switch


def test_run_makes_a_task_at_once_and_leaves_the_times_alone():
    one = make(name="report")
    before = one.next_run_at

    task = schedules.run("report")

    assert (task.schedule, task.method, task.run_at) == ("report", METHOD, None)
    assert fresh(one).next_run_at == before
    assert fresh(one).last_task == task
    with pytest.raises(InvalidCall, match=f"its task {task.pk} is still Pending"):
        schedules.run("report")


def test_skip_passes_over_one_run_on_record():
    one = make(name="report", every=3600)
    before = one.next_run_at

    after = schedules.skip_next("report", user=make_user("anna", "manage_schedule"))

    assert after.next_run_at == before + HOUR
    assert "anna skipped the run of" in after.skipped_why
    assert after.skipped_count == 1


def test_a_single_time_that_is_skipped_is_over():
    one = make(at=dialect.now("default") + HOUR)

    after = schedules.skip_next(one)

    assert (after.next_run_at, after.enabled, after.skipped_count) == (None, False, 1)
    timekeeping.keep_time()
    assert fresh(one).next_run_at is None


def test_what_has_no_next_run_cannot_be_skipped():
    schedules.disable(make(name="report"))

    with pytest.raises(InvalidCall, match="has no next run to skip"):
        schedules.skip_next("report")


@pytest.mark.parametrize(
    "act",
    [
        schedules.adopt,
        schedules.delete,
        schedules.disable,
        schedules.enable,
        schedules.run,
        schedules.skip_next,
    ],
)
def test_who_has_no_permission_changes_nothing(act):
    make(name="report")

    with pytest.raises(NotPermitted, match=r"'taskcontrol\.manage_schedule' is missing"):
        act("report", user=make_user())
    with pytest.raises(ScheduleNotFound, match="There is no schedule 'other'"):
        act("other")


def test_delete_takes_the_row_of_the_beat_too():
    schedules.delete(make(name="report"))

    assert not PeriodicTask.objects.filter(name="report").exists()
    assert not Schedule.objects.exists()


# Races


@pytest.mark.django_db(transaction=True)
def test_two_beats_fire_once():
    for number in range(5):
        make_due(make(name=f"race {number}"))

    answers = race(fire_due_schedules, fire_due_schedules, fire_due_schedules)

    assert sum(answers) == 5, answers
    assert sorted(task.schedule for task in runs()) == [f"race {n}" for n in range(5)]
    assert set(Schedule.objects.values_list("run_count", "skipped_count")) == {(1, 0)}


@pytest.mark.django_db(transaction=True)
def test_a_button_and_a_beat_make_one_task():
    one = make_due(make(name="race"))

    answers = race(fire_due_schedules, lambda: schedules.run("race"))

    assert len(runs()) == 1, answers
    assert fresh(one).run_count == 1


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_declare_one_schedule_make_one():
    race(*[lambda: make(name="race")] * 3)

    assert PeriodicTask.objects.filter(name="race").count() == 1
    assert Schedule.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_first_runs_make_one_system_user():
    make_due(make(name="a"))
    make_due(make(name="b"))

    race(fire_due_schedules, fire_due_schedules)

    assert len(runs()) == 2
    assert get_user_model().objects.filter(username="taskcontrol-scheduler").count() == 1


# Without django-celery-beat


def test_without_the_beats_app_nothing_fires_and_the_sentence_says_what_to_do(monkeypatch):
    for room in (timekeeping, firing, schedulerows):
        monkeypatch.setattr(room, "beat_is_installed", lambda: False)
    assert fire_due_schedules() == 0
    assert timekeeping.anything_due() is False
    timekeeping.keep_time()
    timekeeping.follow_the_beat()
    schedulerows.sync_schedules()

    monkeypatch.setattr("taskcontrol.timetables.beat_is_installed", lambda: False)
    with pytest.raises(InvalidCall, match="Schedules need django-celery-beat"):
        make()


def test_the_front_door_leads_to_the_room():
    assert taskcontrol.schedules is schedules


def test_a_database_that_is_away_takes_no_turn(monkeypatch, caplog):
    from django.db import OperationalError

    one = make_due(make())
    due = one.next_run_at

    def away(*args, **kwargs):
        raise OperationalError("gone")

    monkeypatch.setattr(firing, "enqueue", away)
    with caplog.at_level(logging.ERROR, "taskcontrol"):
        assert fire_due_schedules() == 0
    assert fresh(one).next_run_at == due
    assert "could not be fired; it is tried again" in caplog.text

    monkeypatch.undo()
    assert fire_due_schedules() == 1
