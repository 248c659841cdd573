"""The schedules of the settings: the shape of the seeds, written to the database by migrate."""

from __future__ import annotations

import json

import pytest
from django.core import checks
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from taskcontrol.models import Schedule
from taskcontrol.scheduledcode import schedules_of_settings
from taskcontrol.schedulerows import sync_schedules

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

A, B = "tests.tasks.nothing", "tests.tasks.give_back"

#: The blocks ``scheduler_events`` of the seeds, word by word but for the paths.
USER_GUIDE = {
    "daily": [A],
    "daily_long": [B],
    "cron": {"15 18 * * *": [A], "*/6 * * * *": [B], "annual": [B]},
}
PRODUCTION = {
    "all": [A, B],
    "cron": {
        "0 * * * *": [A],
        "0 19 * * *": [A],
        "0 1 * * *": [A],
        "0 6 * * *": [A, B],
        "* * * * *": [A, B],
    },
}


def declared(conf, given, **more):
    """Return what the settings declare as {name: timetable}, written to the database."""
    conf(SCHEDULES=given, **more)
    sync_schedules()
    return {one.name: one.timetable for one in Schedule.objects.all()}


def findings(conf, given):
    """Return what the system checks say."""
    conf(SCHEDULES=given)
    found = checks.run_checks(tags=["taskcontrol"])
    return [one for one in found if one.id in {f"taskcontrol.E04{n}" for n in (1, 2, 3)}]


def test_the_events_of_the_user_guide_become_schedules(conf):
    assert declared(conf, USER_GUIDE) == {
        f"{A} (daily)": "0 0 * * * (UTC)",
        f"{B} (daily_long)": "0 0 * * * (UTC)",
        f"{A} (15 18 * * *)": "15 18 * * * (UTC)",
        f"{B} (*/6 * * * *)": "*/6 * * * * (UTC)",
        f"{B} (yearly)": "0 0 1 1 * (UTC)",
    }
    assert findings(conf, USER_GUIDE) == []


def test_the_events_of_the_production_guide_become_schedules(conf):
    found = declared(conf, PRODUCTION)

    assert len(found) == 9
    assert found[f"{A} (all)"] == found[f"{B} (all)"] == "every 240 s"
    assert found[f"{B} (0 6 * * *)"] == "0 6 * * * (UTC)"
    assert findings(conf, PRODUCTION) == []


@pytest.mark.parametrize(
    ("key", "timetable"),
    [
        ("hourly", "0 * * * * (Europe/Berlin)"),
        ("daily", "0 0 * * * (Europe/Berlin)"),
        ("weekly", "0 0 * * 0 (Europe/Berlin)"),
        ("monthly", "0 0 1 * * (Europe/Berlin)"),
        ("yearly", "0 0 1 1 * (Europe/Berlin)"),
        ("annual", "0 0 1 1 * (Europe/Berlin)"),
    ],
)
@pytest.mark.parametrize("long", ["", "_long"])
def test_each_key_means_its_time_in_the_zone_of_the_site(
    conf, settings, key, timetable, long
):
    settings.TIME_ZONE = "Europe/Berlin"

    assert list(declared(conf, {f"{key}{long}": [A]}).values()) == [timetable]

    row = PeriodicTask.objects.get(task="taskcontrol.enqueue")
    queue = {"queue": "long"} if long else {}
    assert json.loads(row.kwargs) == {"method": A, **queue}


def test_all_is_every_scheduler_interval(conf):
    assert declared(conf, {"all": [A]}, SCHEDULER_INTERVAL=60) == {
        f"{A} (all)": "every 60 s"
    }
    assert declared(conf, {"all": [A]}, SCHEDULER_INTERVAL=90) == {
        f"{A} (all)": "every 90 s"
    }


def test_a_method_listed_twice_runs_once(conf):
    given = {
        "hourly": [A, A],
        "yearly": [A],
        "cron": {"annual": [A], "0/5 * * * *": [A, A]},
    }

    assert len(declared(conf, given)) == 3


def test_one_path_may_stand_without_a_list(conf):
    assert len(declared(conf, {"hourly": A, "cron": {"0/5 * * * *": A}})) == 2


def test_a_long_path_gets_a_name_that_fits_and_stays(conf):
    path = f"tests.{'x' * 230}"
    conf(SCHEDULES={"cron": {"0 6 * * *": [path], "0 7 * * *": [path]}})

    (first, second), wrong = schedules_of_settings()

    assert len(first.name) <= 200
    assert first.name != second.name
    assert schedules_of_settings()[0] == [first, second]
    assert wrong == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"cron": {"61 * * * *": [A]}}, "'61 * * * *' is not valid: the minute 61 is not"),
        ({"cron": {"sometimes": [A]}}, "'sometimes' is not valid: it has 1 fields"),
        ({"cron": [A]}, "cron must be a dict of expressions"),
        ({"secondly": [A]}, "there is no key 'secondly'; there are: cron, all, hourly"),
        ({"hourly": [3]}, "hourly: there must be a list of dotted paths, not 3"),
        ({"cron": {"* * * * *": None}}, "there must be a list of dotted paths, not None"),
        ({"daily": ["no path"]}, "there must be a list of dotted paths, not 'no path'"),
        ({"daily": ["os.system"]}, "(daily) cannot run: 'os.system' may not run"),
        ({"daily": ["tests.tasks.gone"]}, "(daily) cannot run: Unknown method"),
    ],
)
def test_a_bad_declaration_is_named_and_stops_no_other(conf, given, sentence, caplog):
    given = {"monthly": [B], **given}

    (finding,) = findings(conf, given)
    assert finding.is_serious()
    assert sentence in finding.msg

    assert f"{B} (monthly)" in declared(conf, given)


def test_schedules_without_the_beats_app_are_named(conf, monkeypatch):
    monkeypatch.setattr("taskcontrol.checks.ourschedules.beat_is_installed", lambda: False)

    assert "needs django-celery-beat" in findings(conf, {"daily": [A]})[0].msg


def test_a_setting_that_is_no_dict_is_named(conf):
    conf(SCHEDULES=[A])

    (found,) = [
        one for one in checks.run_checks(tags=["taskcontrol"]) if one.id.endswith("E002")
    ]
    assert "TASKCONTROL['SCHEDULES'] must be a dict" in found.msg


# Deploys


def test_an_edit_survives_every_deploy(conf):
    declared(conf, {"daily": [A], "all": [A]})
    PeriodicTask.objects.filter(name=f"{A} (daily)").update(
        crontab=CrontabSchedule.objects.create(hour="5", minute="0", timezone="UTC")
    )
    PeriodicTask.objects.filter(name=f"{A} (all)").update(enabled=False)

    found = declared(conf, {"daily": [A], "all": [A]}, SCHEDULER_INTERVAL=60)

    assert found == {f"{A} (daily)": "0 5 * * * (UTC)", f"{A} (all)": "every 60 s"}
    assert Schedule.objects.get(name=f"{A} (all)").enabled is False


def test_what_the_settings_no_longer_name_is_deleted(conf):
    declared(conf, {"daily": [A], "hourly": [A]})

    assert list(declared(conf, {"hourly": [A]})) == [f"{A} (hourly)"]
    assert not PeriodicTask.objects.filter(name=f"{A} (daily)").exists()


def test_what_a_person_changed_is_switched_off_and_then_theirs(conf):
    declared(conf, {"daily": [A]})
    PeriodicTask.objects.filter(name=f"{A} (daily)").update(description="mine")

    declared(conf, {})

    row = Schedule.objects.get()
    assert (row.enabled, row.declared) == (False, None)
    PeriodicTask.objects.filter(pk=row.periodic_id).update(enabled=True)
    declared(conf, {})
    assert Schedule.objects.get().enabled is True


def test_a_mistake_in_the_settings_deletes_nothing(conf, caplog):
    declared(conf, {"daily": [A]})

    declared(conf, {"dayly": [A]})

    assert Schedule.objects.filter(name=f"{A} (daily)").exists()
    assert "there is no key 'dayly'" in caplog.text


def test_schedules_made_by_hand_or_by_create_are_left_alone(conf):
    from taskcontrol import schedules

    schedules.create(A, every=60, name="from code")
    interval = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.create(
        name="by hand",
        task="taskcontrol.enqueue",
        kwargs=json.dumps({"method": A}),
        interval=interval,
    )

    declared(conf, {})

    assert set(Schedule.objects.values_list("name", flat=True)) == {"from code", "by hand"}


def test_a_name_that_a_plain_task_has_is_logged_and_stops_no_other(conf, caplog):
    interval = IntervalSchedule.objects.create(every=1, period="hours")
    PeriodicTask.objects.create(name=f"{A} (daily)", task="shop.close", interval=interval)

    assert list(declared(conf, {"daily": [A], "hourly": [A]})) == [f"{A} (hourly)"]
    assert "could not be written" in caplog.text


def test_a_deploy_without_changes_writes_nothing(conf, django_assert_max_num_queries):
    declared(conf, PRODUCTION)
    before = list(
        PeriodicTask.objects.order_by("pk").values_list("date_changed", flat=True)
    )

    declared(conf, PRODUCTION)

    after = list(PeriodicTask.objects.order_by("pk").values_list("date_changed", flat=True))
    assert before == after
