"""``doctor``: each thing that can keep tasks from running, and what it says about it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import checks
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

import taskcontrol
from taskcontrol import bell, dialect, schedulerows
from taskcontrol.beating import beat_was_here
from taskcontrol.doctor import diagnosis, foundations, punctuality, symptoms, typekeys
from taskcontrol.doctor.findings import Finding, Level
from taskcontrol.models import DispatcherState, Schedule, TaskType
from taskcontrol.status import Status
from taskcontrol.suspension import dispatcher_state
from tests.factories import make_task, make_type, make_worker, seconds_ago

pytestmark = pytest.mark.django_db


def about(subject: str, look=symptoms.examine_tasks) -> list[Finding]:
    return [one for one in look() if one.subject == subject]


def finding(subject: str, look=symptoms.examine_tasks) -> Finding:
    (found,) = about(subject, look)
    return found


@pytest.fixture
def healthy():
    """A site on which nothing is wrong."""
    dispatcher_state()
    DispatcherState.objects.update(last_pass_at=seconds_ago(0.5))
    beat_was_here()
    return make_worker(pool_size=4)


# The whole


@pytest.mark.databases
def test_a_healthy_site_is_all_right(healthy, broker, monkeypatch):
    monkeypatch.setattr(checks, "run_checks", lambda **_tags: [])

    findings = diagnosis.examine()

    assert {one.level for one in findings} == {Level.OK}
    assert [one.subject for one in findings] == [
        "Settings",
        "Database",
        "Broker",
        "Bell",
        "Dispatcher",
        "Beat",
        "Workers",
        "Queue default",
        "Queue long",
        "Queue short",
        "Failures",
        *(["Referee"] if connection.vendor == "postgresql" else []),
    ]


def test_the_worst_finding_counts():
    def of(*levels: Level) -> Level:
        return diagnosis.worst([Finding(level, "", "") for level in levels])

    assert of() is Level.OK
    assert of(Level.WARN, Level.OK) is Level.WARN
    assert of(Level.FAIL, Level.WARN, Level.OK) is Level.FAIL


def test_a_database_that_does_not_answer_is_found_and_ends_the_walk(monkeypatch, broker):
    def refuse() -> None:
        raise OperationalError("connection refused\n\tis it running?")

    monkeypatch.setattr(connection, "ensure_connection", refuse)

    findings = {one.subject: one for one in diagnosis.examine()}

    assert findings["Database"].level is Level.FAIL
    assert findings["Database"].text == (
        "does not answer: connection refused is it running?"
    )
    assert findings["Database"].advice == "Start it, or correct DATABASES['default']."
    assert "Dispatcher" not in findings


def test_what_was_found_before_a_look_broke_is_kept(monkeypatch):
    monkeypatch.setattr(symptoms, "_failures", _broken)
    make_worker()

    findings = diagnosis._safely("Tasks", symptoms.examine_tasks)

    assert findings[-1] == Finding(Level.FAIL, "Tasks", "OperationalError: gone")
    assert len(findings) > 1


def _broken():
    raise OperationalError("gone")


# What tasks stand on


def test_what_the_system_checks_say_is_told_with_its_hint(conf):
    conf(QUEUEZ={})

    (found,) = [one for one in foundations.examine_settings() if "W001" in one.text]

    assert found.level is Level.WARN
    assert found.advice == "Did you mean QUEUES?"


def test_an_error_of_the_system_checks_is_a_failure(conf):
    conf(ATOMIC="yes")

    assert finding("Settings", foundations.examine_settings).level is Level.FAIL


def test_a_silenced_check_is_no_finding(conf, settings):
    conf(ATOMIC="yes")
    settings.SILENCED_SYSTEM_CHECKS = ["taskcontrol.E002"]

    assert finding("Settings", foundations.examine_settings).level is Level.OK


@pytest.mark.parametrize(
    ("seconds", "said"), [(90, "1 min 30 s ahead of"), (-7, "7 s behind")]
)
def test_a_clock_that_differs_is_found(monkeypatch, seconds, said):
    away = timedelta(seconds=seconds)
    monkeypatch.setattr(dialect, "now", lambda using: timezone.now() + away)

    found = finding("Database", foundations.examine_database)

    assert found.level is Level.WARN
    assert f"its clock is {said} this machine's" in found.text


@pytest.mark.databases
def test_a_migration_that_is_not_applied_is_found():
    MigrationRecorder(connection).record_unapplied("taskcontrol", "0001_initial")

    found = about("Database", foundations.examine_database)[-1]

    assert found.level is Level.FAIL
    assert "taskcontrol.0001_initial" in found.text
    assert found.advice == "Run manage.py migrate."


def test_a_broker_that_is_down_is_found(broker):
    assert finding("Broker", foundations.examine_broker).level is Level.OK

    broker.kill()
    found = finding("Broker", foundations.examine_broker)

    assert found.level is Level.FAIL
    assert "cannot be reached" in found.text


def test_a_bell_that_is_down_is_found(broker):
    assert finding("Bell", foundations.examine_bell).text == "its Redis answers"

    broker.kill()
    found = finding("Bell", foundations.examine_bell)

    assert found.level is Level.WARN
    assert "tasks start up to a second later" in found.text


def test_a_site_without_redis_has_no_bell_and_needs_none(conf, settings):
    conf(REDIS_URL=None)
    settings.CELERY_BROKER_URL = "amqp://guest@localhost//"
    assert bell.redis_url() is None

    assert finding("Bell", foundations.examine_bell).level is Level.OK


# Signs of life


def test_a_suspended_dispatcher_is_found_with_who_and_why(healthy):
    taskcontrol.toggle_dispatcher(enable=False, reason="deploy")

    found = finding("Dispatcher")

    assert found.level is Level.WARN
    assert "by the system (deploy)" in found.text
    assert "resume-dispatch" in found.advice


def test_a_dispatcher_without_a_pass_is_found(healthy):
    DispatcherState.objects.update(last_pass_at=None)

    assert finding("Dispatcher").level is Level.FAIL


def test_a_dispatcher_whose_passes_have_stopped_is_found(healthy):
    DispatcherState.objects.update(last_pass_at=seconds_ago(120))

    assert "made its last pass 2 min ago" in finding("Dispatcher").text


def test_a_dispatcher_that_the_broker_holds_up_is_found(healthy):
    DispatcherState.objects.update(broker_error="Connection refused")

    found = finding("Dispatcher")

    assert (found.level, found.text) == (
        Level.FAIL,
        "held up by the broker: Connection refused",
    )


@pytest.mark.parametrize("seen", [None, 90])
def test_a_silent_beat_is_found(healthy, seen):
    at = None if seen is None else seconds_ago(seen)
    DispatcherState.objects.update(beat_seen_at=at)

    assert finding("Beat").level is Level.WARN


def test_a_site_without_workers_is_found_once():
    found = list(symptoms.examine_tasks())

    assert finding("Workers").level is Level.FAIL
    assert not [one for one in found if one.subject.startswith("Queue")]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"consuming": False}, "not consuming: bad@here"),
        ({"last_seen_at": seconds_ago(3600)}, "silent: bad@here"),
        ({"lost_at": seconds_ago(60)}, "lost: bad@here"),
    ],
)
def test_a_worker_in_trouble_is_named(healthy, columns, said):
    make_worker(hostname="bad@here", **columns)

    good, bad = about("Workers")

    assert good.text == "1 worker live, 0 of 4 slots busy"
    assert (bad.level, bad.text) == (Level.WARN, said)
    assert bad.advice


# Queues


@pytest.mark.parametrize(
    ("status", "level"),
    [
        (Status.FINISHED, Level.WARN),
        (Status.PENDING, Level.FAIL),
        (Status.QUEUED, Level.FAIL),
    ],
)
def test_a_queue_that_no_worker_serves_is_found(status, level):
    make_worker(["default", "short"])
    make_task(status, queue="long")

    found = finding("Queue long")

    assert found.level is level
    assert "no live worker takes from it" in found.text
    assert found.advice.endswith("manage.py taskcontrol worker --queue long")


def test_tasks_that_wait_where_nobody_is_are_found():
    make_task(queue="long")

    assert finding("Queue long").level is Level.FAIL


def test_a_task_that_waits_long_is_found_with_its_first_reason(healthy):
    taskcontrol.toggle_dispatcher(enable=False)
    task = make_task(created_at=seconds_ago(300))

    found = finding("Queue default")

    assert found.level is Level.WARN
    assert f"1 task waiting, task {task.pk} for 5 min" in found.text
    assert found.advice.startswith("The dispatcher is suspended")


def test_a_task_that_waits_for_a_moment_is_no_finding(healthy):
    make_task()

    assert finding("Queue default") == Finding(Level.OK, "Queue default", "1 task waiting")


# Tasks that do not move


@pytest.mark.databases
def test_a_sent_task_that_nobody_claims_is_found(healthy):
    task = make_task(Status.QUEUED, sent_at=seconds_ago(45))
    make_task(Status.QUEUED, sent_at=seconds_ago(5))

    found = finding("Sent tasks")

    assert f"1 task sent over 30 s ago and not claimed: {task.pk}" in found.text
    assert "no worker has claimed it yet" in found.advice


@pytest.mark.databases
def test_a_claimed_task_whose_begin_is_not_written_is_found_and_was_not_sent(healthy):
    old = {"sent_at": seconds_ago(45), "queued_at": seconds_ago(45)}
    task = make_task(Status.QUEUED, worker=healthy, **old)
    make_task(Status.QUEUED, worker=healthy)

    found = finding("Claimed tasks")

    assert found.level == Level.WARN
    assert f"1 task claimed over 30 s ago and no begin is written: {task.pk}" in found.text
    assert f"It was claimed by {healthy.hostname}" in found.advice
    assert "Sent tasks" not in {one.subject for one in diagnosis.examine()}


@pytest.mark.databases
def test_a_body_that_does_not_stop_is_found(healthy):
    task = make_task(
        Status.CANCELED, occupies=True, worker=healthy, cancel_requested_at=seconds_ago(60)
    )
    make_task(Status.CANCELED, occupies=True, cancel_requested_at=seconds_ago(3))

    found = finding("Stopping")

    assert found.text == (
        f"1 body told to stop and not gone: tasks {task.pk} on {healthy.hostname}"
    )


def test_a_body_on_a_worker_that_was_pruned_is_found_too(healthy):
    make_task(Status.FAILED, occupies=True, worker_id=4711, ended_at=seconds_ago(60))

    assert finding("Stopping").text.endswith("on unknown workers")


@pytest.mark.databases
def test_failures_of_the_last_hour_are_counted_by_type(healthy):
    for method, number in (("tests.tasks.fail", 3), ("tests.tasks.add", 1)):
        for _ in range(number):
            make_task(Status.FAILED, method=method)
    make_task(Status.FAILED, retry_at=seconds_ago(1), max_retries=1)
    make_task(Status.FAILED, ended_at=seconds_ago(7200))

    found = finding("Failures")

    assert found.level is Level.WARN
    assert found.text == (
        "4 tasks failed within 1 h: tests.tasks.fail 3 and tests.tasks.add 1"
    )


# Schedules


def schedule(**columns):
    one = taskcontrol.schedules.create("tests.tasks.nothing", every=86400, name="daily")
    Schedule.objects.filter(pk=one.pk).update(**columns)
    return one


def test_schedules_that_are_well_are_told_with_the_next_one():
    assert list(punctuality.examine_schedules()) == []
    schedule()

    (found,) = punctuality.examine_schedules()

    assert found.level is Level.OK
    assert found.text.startswith("1 schedule on; daily is next, at 2")


def test_schedules_of_the_settings_that_were_not_written_are_found(conf):
    conf(SCHEDULES={"daily": ["tests.tasks.nothing"]})

    found = finding("Schedules", punctuality.examine_schedules)
    assert "not in the database yet: tests.tasks.nothing (daily)" in found.text
    assert found.advice == "Write them: manage.py migrate"

    schedulerows.sync_schedules()
    assert finding("Schedules", punctuality.examine_schedules).level is Level.OK


def test_a_schedule_that_cannot_run_is_found():
    schedule(error="Its arguments are no JSON", next_run_at=None)

    found = finding("Schedule daily", punctuality.examine_schedules)

    assert found.level is Level.WARN
    assert found.text == "cannot run: Its arguments are no JSON"


def test_a_schedule_that_nobody_fires_is_found():
    schedule(next_run_at=seconds_ago(120))

    found = finding("Schedules", punctuality.examine_schedules)

    assert found.level is Level.FAIL
    assert "1 schedule due for over 1 min and not fired: daily" in found.text


@pytest.mark.parametrize(("began", "findings"), [(7200, 1), (600, 0)])
def test_a_run_that_holds_up_the_next_ones_for_long_is_found(began, findings):
    last = make_task(Status.STARTED)
    schedule(
        last_task=last,
        last_run_at=seconds_ago(began),
        skipped_at=seconds_ago(30),
        skips=[f"the run of today: task {last.pk} of the last one is still Started"],
    )

    found = about("Schedule daily", punctuality.examine_schedules)

    assert len(found) == findings
    assert all(f"explain {last.pk}" in one.advice for one in found)


# Types


@pytest.mark.parametrize(
    ("method", "why"),
    [
        # As a document of another system has it, where the class belongs into the key.
        ("tests.models.paper.submit", "has no 'paper.submit'"),
        ("tests.tasks.nothin", "'tests.tasks' has no 'nothin'"),
        ("tests.Paper.sumbit", "has no 'Paper.sumbit'"),
        ("os.system", "may not run"),
    ],
)
def test_a_type_whose_key_leads_nowhere_is_found_w22(method, why):
    make_type(method, concurrency_limit=1)

    found = finding(f"Type {method}", typekeys.examine_types)

    assert found.level is Level.WARN
    assert "no task can be of it" in found.text
    assert why in found.text


@pytest.mark.parametrize(
    "method",
    ["tests.tasks.nothing", "tests.Paper.submit", "tests.Counter.raise_by", "greet"],
)
def test_a_type_that_a_task_can_have_is_no_finding(method, conf):
    conf(DOCUMENT_ACTIONS=["tests.Counter.raise_by"])
    TaskType.objects.update_or_create(method=method, defaults={"concurrency_limit": 1})

    assert list(typekeys.examine_types()) == []


def test_a_type_that_nobody_set_up_or_that_had_tasks_is_no_finding():
    make_type("gone.before")
    make_type("gone.since", priority=5)
    make_task(Status.FINISHED, method="gone.since")

    assert list(typekeys.examine_types()) == []
