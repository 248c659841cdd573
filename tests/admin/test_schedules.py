"""The screen of the schedules: who may edit, what is refused at save, and the buttons."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from taskcontrol import firing, schedules, timetables
from taskcontrol.models import Schedule, TaskLog
from taskcontrol.status import Status
from tests import tasks
from tests.admin.conftest import NONSENSE_IN_JSON, list_url, messages_of, page_url, text_of
from tests.factories import make_task, make_user, seconds_ago

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

LIST = "/admin/taskcontrol/schedule/"
ADD = "/admin/taskcontrol/schedule/add/"
METHOD = "tests.tasks.give_back"
BUTTONS = ("run", "skip", "enable", "disable")


@pytest.fixture
def manager(log_in):
    """May manage schedules, and see their tasks."""
    return log_in("manager", "manage_schedule", "view_tasklog")


@pytest.fixture
def hourly():
    return schedules.create(
        tasks.give_back,
        cron="0 * * * *",
        zone="UTC",
        name="hourly",
        queue="long",
        arguments={"value": 1},
        timeout=60,
    )


def form_of(client, url=ADD, **changes):
    """Return what a person who fills in some fields sends."""
    fields = client.get(url).context["adminform"].form
    values = {}
    for name in fields.fields:
        value = fields[name].value()
        values[name] = "" if value is None else value
    at = values.pop("at")
    day, hour = at if isinstance(at, list) else (at, at)
    return {**values, "at_0": day, "at_1": hour, **changes}


def save(client, url=ADD, **changes):
    return client.post(url, form_of(client, url, **changes))


def errors_of(response):
    assert response.status_code == 200
    return response.context["adminform"].form.errors


# Who may what


def test_without_a_permission_there_are_no_schedules(staff, viewer, hourly):
    for client in (staff, viewer):
        assert client.get(LIST).status_code == 403
        assert client.get(ADD).status_code == 403
        assert client.get(page_url(hourly)).status_code == 403
        for button in BUTTONS:
            assert client.post(page_url(hourly, button)).status_code == 403
    assert not TaskLog.objects.exists()


def test_who_may_only_look_changes_nothing(log_in, hourly):
    client = log_in("reader", "view_schedule")

    page = text_of(client.get(page_url(hourly)))

    assert "0 * * * *" in page
    for button in BUTTONS:
        assert page_url(hourly, button) not in page
        assert client.post(page_url(hourly, button)).status_code == 403
    assert client.post(page_url(hourly), {"name": "mine"}).status_code == 403
    assert client.post(page_url(hourly, "delete"), {"post": "yes"}).status_code == 403
    assert Schedule.objects.get().name == "hourly"


def test_without_the_beats_app_there_is_no_screen(boss, monkeypatch):
    monkeypatch.setattr(timetables, "APP", "not_installed")

    assert boss.get(LIST).status_code == 403
    assert LIST not in text_of(boss.get("/admin/"))


# Making and editing


def test_a_schedule_is_made_in_admin(manager):
    response = save(
        manager,
        name="Reconcile",
        method=METHOD,
        arguments='{"value": {"tc": ["date", "2026-01-02"]}}',
        queue="long",
        more='{"timeout": 600, "max_retries": 2}',
        cron="0/5 9-17 * * mon-fri",
        zone="Europe/Berlin",
        scheduled_against="shop.Payment",
        description="every five minutes",
    )

    assert response.status_code == 302
    one = Schedule.objects.get()
    row = PeriodicTask.objects.get()
    assert one.timetable == "0-59/5 9-17 * * 1-5 (Europe/Berlin)"
    assert (one.name, one.method, one.scheduled_against) == (
        "Reconcile",
        METHOD,
        "shop.Payment",
    )
    assert (row.task, row.description) == ("taskcontrol.enqueue", "every five minutes")
    assert json.loads(row.kwargs) == {
        "method": METHOD,
        "arguments": {"value": {"tc": ["date", "2026-01-02"]}},
        "queue": "long",
        "timeout": 600,
        "max_retries": 2,
    }
    assert one.next_run_at > seconds_ago(0)
    assert LogEntry.objects.get().user == manager.user
    assert not TaskLog.objects.exists(), "it waits for its next time"


def test_the_page_shows_what_is_stored_and_saving_it_changes_nothing(manager, hourly):
    before = PeriodicTask.objects.values().get()
    next_run = hourly.next_run_at

    form = form_of(manager, page_url(hourly))
    assert (form["cron"], form["zone"], form["method"]) == ("0 * * * *", "UTC", METHOD)
    assert json.loads(form["arguments"]) == {"value": 1}
    assert json.loads(form["more"]) == {"timeout": 60}
    assert manager.post(page_url(hourly), form).status_code == 302

    after = PeriodicTask.objects.values().get()
    assert {**after, "date_changed": None} == {**before, "date_changed": None}
    assert Schedule.objects.get().next_run_at == next_run


def test_secrets_are_masked_and_kept_for_who_may_not_see_them(manager, boss):
    secret = schedules.create(
        tasks.give_back, every=60, name="secret", arguments={"value": {"api_key": "s3cr3t"}}
    )
    url = page_url(secret)

    assert "s3cr3t" not in text_of(manager.get(url))
    assert "s3cr3t" in text_of(boss.get(url))
    assert save(manager, url, arguments='{"value": 2}', every=90).status_code == 302
    secret.refresh_from_db()
    assert "90" in secret.timetable
    assert schedules.run(secret).arguments == {"value": {"api_key": "s3cr3t"}}


def test_an_edit_sets_the_next_run_and_survives_what_code_says(manager, hourly):
    assert save(manager, page_url(hourly), cron="", every="7200").status_code == 302

    schedules.create(
        tasks.give_back, cron="0 * * * *", zone="UTC", name="hourly", timeout=99
    )

    one = Schedule.objects.get()
    assert one.timetable == "every 7200 s"
    assert json.loads(PeriodicTask.objects.get().kwargs)["timeout"] == 99


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"cron": "0 25 * * *"}, "cron", "the hour 25 is not between 0 and 23"),
        ({"cron": "tomorrow"}, "cron", "is not valid"),
        ({"zone": "Mars/City"}, "__all__", "There is no time zone"),
        ({"every": "60"}, "__all__", "exactly one of cron="),
        ({"cron": ""}, "__all__", "exactly one of cron="),
        ({"cron": "", "every": "0"}, "__all__", "every must be whole seconds"),
        ({"cron": "", "at_0": "2020-01-01", "at_1": "00:00"}, "__all__", "never run"),
        ({"method": "tests.tasks.nothing_there"}, "method", "nothing_there"),
        ({"method": "os.system"}, "method", "may not run"),
        ({"method": ""}, "__all__", "needs a method"),
        ({"arguments": "["}, "arguments", "JSON"),
        ({"arguments": "[1]"}, "arguments", "It must be an object"),
        ({"arguments": '{"a": {"tc": ["date", "x"]}}'}, "arguments", "cannot be read"),
        ({"arguments": '{"wrong": 1}'}, "__all__", "cannot be called with"),
        ({"more": '{"timeout": 0}'}, "__all__", "timeout must be"),
        ({"more": '{"run_at": 1}'}, "__all__", "A schedule takes no run_at="),
        ({"queue": "nowhere"}, "queue", "nowhere"),
        ({"name": "taken"}, "name", "There is a periodic task of this name"),
        ({"name": ""}, "name", "required"),
        ({"run_as": "999999"}, "run_as", "valid choice"),
    ],
)
def test_nonsense_is_refused_at_save_with_a_sentence(manager, changes, field, sentence):
    schedules.create(tasks.nothing, every=60, name="taken")
    given = {"name": "new", "method": METHOD, "cron": "0 * * * *", **changes}

    errors = errors_of(save(manager, **given))

    assert sentence in str(errors[field])
    assert Schedule.objects.get().name == "taken"


@pytest.mark.parametrize("field", ["arguments", "more"])
@pytest.mark.parametrize("nonsense", [*NONSENSE_IN_JSON, '{"a": {"tc": ["dict", [1]]}}'])
def test_nonsense_in_json_is_told_at_its_box(manager, field, nonsense):
    given = {"name": "new", "method": METHOD, "cron": "0 * * * *", field: nonsense}

    assert errors_of(save(manager, **given)).keys() == {field}
    assert not Schedule.objects.exists()


def test_another_user_is_chosen_here_and_holds_for_what_was_saved(manager, hourly):
    anna = make_user("anna")
    assert save(manager, page_url(hourly), run_as=str(anna.pk)).status_code == 302
    assert schedules.run("hourly").creator == anna

    TaskLog.objects.all().delete()
    PeriodicTask.objects.update(kwargs='{"method": "tests.tasks.nothing"}')
    Schedule.objects.update(next_run_at=seconds_ago(1))
    assert firing.fire_due_schedules() == 0
    assert "has to choose the user again" in text_of(manager.get(page_url(hourly)))

    assert save(manager, page_url(hourly)).status_code == 302
    assert schedules.run("hourly").creator == anna


def test_a_row_that_cannot_be_read_is_shown_and_mended(manager, hourly):
    PeriodicTask.objects.update(kwargs="[", crontab=None)

    assert "cannot run" in text_of(manager.get(LIST))
    text_of(manager.get(page_url(hourly)))
    response = save(manager, page_url(hourly), method=METHOD, cron="0 3 * * *", zone="UTC")

    assert response.status_code == 302
    one = Schedule.objects.get()
    assert (one.error, one.timetable) == ("", "0 3 * * * (UTC)")


def test_begin_and_end_of_the_beats_row_are_kept(manager, hourly):
    end = seconds_ago(-86400)
    PeriodicTask.objects.update(expires=end, expire_seconds=None)

    assert save(manager, page_url(hourly), cron="30 * * * *").status_code == 302

    assert PeriodicTask.objects.get().expires == end
    assert "30 * * * * (UTC), until" in Schedule.objects.get().timetable


def test_deleting_takes_the_beats_row_along(manager, hourly):
    assert manager.post(page_url(hourly, "delete"), {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.exists()
    assert not Schedule.objects.exists()


# The buttons


def test_run_now_makes_a_task_and_is_on_record(manager, hourly):
    response = manager.post(page_url(hourly, "run"), follow=True)

    task = TaskLog.objects.get()
    assert messages_of(response) == [f"Made task {task.pk}."]
    assert task.schedule == "hourly"
    assert LogEntry.objects.get().change_message == f"Made task {task.pk}."

    response = manager.post(page_url(hourly, "run"), follow=True)
    assert f"its task {task.pk} is still Pending" in messages_of(response)[0]


def test_skip_next_is_recorded_and_shown(manager, hourly):
    before = hourly.next_run_at

    manager.post(page_url(hourly, "skip"))

    one = Schedule.objects.get()
    assert one.next_run_at > before
    assert "manager skipped the run of" in text_of(manager.get(page_url(one)))
    assert "manager skipped the run of" in text_of(manager.get(LIST))


def test_it_is_switched_off_and_on(manager, hourly):
    response = manager.post(page_url(hourly, "disable"), follow=True)
    assert messages_of(response) == ["Disabled; what runs goes on."]
    assert Schedule.objects.get().next_run_at is None
    assert page_url(hourly, "skip") not in text_of(response)

    manager.post(page_url(hourly, "enable"))
    assert Schedule.objects.get().next_run_at > seconds_ago(0)


def test_buttons_take_no_get(manager, hourly):
    for button in BUTTONS:
        assert manager.get(page_url(hourly, button)).status_code == 405


def test_several_are_acted_on_at_once(manager, hourly):
    other = schedules.create(tasks.nothing, every=86400, name="other")
    Schedule.objects.filter(pk=hourly.pk).update(last_task=make_task(Status.STARTED))

    chosen = {"action": "run_selected", "_selected_action": [hourly.pk, other.pk]}
    response = manager.post(list_url("schedule"), chosen, follow=True)

    refused, done = messages_of(response)
    assert "is still Started" in refused
    assert done == "Done for 1 of the selected."


# What is shown


def test_the_list_and_the_page_show_the_last_run_and_the_skipped_ones(manager, hourly):
    last = make_task(Status.STARTED)
    Schedule.objects.update(last_task=last, next_run_at=seconds_ago(1))
    firing.fire_due_schedules()

    for url in (LIST, page_url(hourly)):
        page = text_of(manager.get(url))
        assert f"task {last.pk} of the last one is still Started" in page
        assert reverse("admin:taskcontrol_tasklog_change", args=[last.pk]) in page
    assert "?schedule=hourly" in page


def test_the_front_page_says_whether_the_schedules_are_in_time(viewer):
    def sign():
        signs = viewer.get("/admin/taskcontrol/").context["signs"]
        return next(
            ((one.word, one.good) for one in signs if one.name == "Schedules"), None
        )

    assert sign() is None
    one = schedules.create(tasks.nothing, every=86400, name="daily")
    assert sign() == ("in time", True)
    Schedule.objects.filter(pk=one.pk).update(error="There is no user 'robot'.")
    assert sign() == ("amiss", False)
    assert "robot" in text_of(viewer.get("/admin/taskcontrol/"))


def test_a_row_of_the_beat_made_by_hand_is_listed_at_once(boss):
    from django_celery_beat.models import IntervalSchedule

    every = IntervalSchedule.objects.create(every=1, period="days")
    PeriodicTask.objects.create(
        name="by hand",
        task="taskcontrol.enqueue",
        interval=every,
        kwargs=json.dumps({"method": METHOD}),
    )

    assert "by hand" in text_of(boss.get(LIST))
    one = Schedule.objects.get()
    beat_row = reverse(
        "admin:django_celery_beat_periodictask_change", args=[one.periodic_id]
    )
    assert beat_row in text_of(boss.get(page_url(one)))
