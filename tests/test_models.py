"""The nouns: what the database refuses, which index serves which query, who is protected."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import CheckConstraint

from taskcontrol.dialect import PartialIndex, now
from taskcontrol.exceptions import StandardTypeProtected
from taskcontrol.models import (
    DispatcherState,
    TaskAttempt,
    TaskEvent,
    TaskKey,
    TaskLog,
    TaskType,
    Worker,
)
from taskcontrol.status import TERMINAL, Status
from tests.factories import make_task, make_type, make_user, seconds_ago

pytestmark = pytest.mark.django_db

MODELS = (DispatcherState, TaskAttempt, TaskEvent, TaskKey, TaskLog, TaskType, Worker)


# Rows that mean something


@pytest.mark.databases
@pytest.mark.parametrize("status", Status)
def test_a_row_can_stand_in_every_status(status):
    task = make_task(status)

    assert TaskLog.objects.get(pk=task.pk).status == status


NONSENSE = [
    ("status_known", Status.PENDING, {"status": "Running", "ready_lane": None}),
    ("ended_at_fits", Status.PENDING, {"ended_at": seconds_ago(1)}),
    ("ended_at_fits", Status.STARTED, {"ended_at": seconds_ago(1)}),
    ("ended_at_fits", Status.FINISHED, {"ended_at": None}),
    ("ended_at_fits", Status.FAILED, {"ended_at": None}),
    ("ended_at_fits", Status.CANCELED, {"ended_at": None}),
    ("started_at_fits", Status.STARTED, {"started_at": None}),
    ("started_at_fits", Status.STARTED, {"occupies": False}),
    ("queued_at_fits", Status.QUEUED, {"queued_at": None}),
    ("queued_at_fits", Status.QUEUED, {"occupies": False}),
    ("queued_at_fits", Status.QUEUED, {"attempt": 0}),
    ("lane_is_pending", Status.PAUSED, {"ready_lane": 1}),
    ("lane_is_pending", Status.QUEUED, {"ready_lane": 1}),
    ("lane_is_pending", Status.FINISHED, {"ready_lane": 1}),
    ("lane_is_pending", Status.PENDING, {"ready_lane": 1, "occupies": True}),
    ("retry_is_failed", Status.PENDING, {"retry_at": seconds_ago(-1)}),
    ("retry_is_failed", Status.CANCELED, {"retry_at": seconds_ago(-1)}),
    ("retry_is_failed", Status.FINISHED, {"retry_at": seconds_ago(-1)}),
]


@pytest.mark.databases
@pytest.mark.parametrize(("constraint", "status", "values"), NONSENSE)
def test_the_database_refuses_nonsense(constraint, status, values):
    task = make_task(status)

    with (
        pytest.raises(IntegrityError, match=f"taskcontrol_task_{constraint}"),
        transaction.atomic(),
    ):
        TaskLog.objects.filter(pk=task.pk).update(**values)


def test_every_constraint_is_among_the_nonsense():
    checks = {
        one.name for one in TaskLog._meta.constraints if isinstance(one, CheckConstraint)
    }

    assert checks == {f"taskcontrol_task_{name}" for name, _, _ in NONSENSE}


@pytest.mark.databases
def test_two_tasks_never_share_a_message():
    make_task(Status.QUEUED, celery_task_id="one")

    with pytest.raises(IntegrityError), transaction.atomic():
        make_task(Status.QUEUED, celery_task_id="one")


@pytest.mark.databases
def test_many_tasks_have_no_message_yet():
    make_task()
    make_task()

    assert TaskLog.objects.filter(celery_task_id=None).count() == 2


@pytest.mark.databases
def test_there_is_one_dispatcher():
    DispatcherState.objects.update_or_create(
        pk=DispatcherState.THE_ONE, defaults={"site": "a"}
    )

    with pytest.raises(IntegrityError), transaction.atomic():
        DispatcherState.objects.create(pk=2, site="b")


@pytest.mark.databases
def test_a_key_has_as_many_holders_as_slots():
    TaskKey.objects.create(key="nightly", slot=0, task=make_task())
    TaskKey.objects.create(key="nightly", slot=1, task=make_task())

    with pytest.raises(IntegrityError), transaction.atomic():
        TaskKey.objects.create(key="nightly", slot=1, task=make_task())


@pytest.mark.databases
def test_an_attempt_is_archived_once():
    task = make_task()
    TaskAttempt.objects.create(task=task, attempt=1, status=Status.FAILED)

    with pytest.raises(IntegrityError), transaction.atomic():
        TaskAttempt.objects.create(task=task, attempt=1, status=Status.FAILED)


@pytest.mark.databases
def test_the_database_tells_when_a_task_was_created_and_gives_it_its_place():
    before = now("default")

    first, second = make_task(), make_task()

    assert before <= first.created_at <= now("default")
    assert first.position <= second.position
    assert abs(first.position / 1_000_000 - first.created_at.timestamp()) < 1


@pytest.mark.databases
def test_no_table_is_tied_to_another_in_the_database():
    with connection.cursor() as cursor:
        tied = [
            name
            for model in MODELS
            for name, one in connection.introspection.get_constraints(
                cursor, model._meta.db_table
            ).items()
            if one["foreign_key"]
        ]

    assert tied == []


def test_a_task_outlives_its_creator():
    user = make_user()
    task = make_task(created_by=user)
    User.objects.filter(pk=user.pk)._raw_delete("default")

    assert TaskLog.objects.get(pk=task.pk).creator is None


def test_a_deleted_user_takes_no_task_along():
    user = make_user()
    task = make_task(created_by=user)

    user.delete()

    assert TaskLog.objects.filter(pk=task.pk).exists()


# Words of the domain


@pytest.mark.parametrize("status", Status)
def test_the_row_and_the_queryset_agree_on_what_has_ended(status):
    task = make_task(status)

    assert task.ended is (status in TERMINAL)
    assert TaskLog.objects.ended().filter(pk=task.pk).exists() is task.ended


def test_a_failed_task_with_a_retry_due_has_not_ended():
    task = make_task(Status.FAILED, retry_at=seconds_ago(-60))

    assert task.ended is False
    assert not TaskLog.objects.ended().exists()


def test_querysets_speak_of_places():
    make_task()
    queued, started = make_task(Status.QUEUED), make_task(Status.STARTED)
    stopping = make_task(Status.CANCELED, occupies=True)
    make_task(Status.FINISHED)

    assert set(TaskLog.objects.active()) == {queued, started}
    assert set(TaskLog.objects.occupying()) == {queued, started, stopping}
    assert set(TaskLog.objects.stopping()) == {stopping}


def test_the_name_of_a_task_is_its_key_as_text():
    task = make_task(job_name="Send letters")

    assert task.name == str(task.pk)
    assert str(task) == f"Send letters ({task.pk})"


# Standard types


@pytest.fixture
def standard(conf):
    conf(PROTECT_STANDARD_TYPES=True)
    return make_type("tests.tasks.add", is_standard=True)


def test_a_standard_type_is_not_deleted(standard):
    with pytest.raises(StandardTypeProtected, match=r"tests\.tasks\.add"):
        standard.delete()


def test_a_standard_type_is_not_deleted_in_bulk(standard):
    other = make_type("tests.tasks.fail")

    with pytest.raises(StandardTypeProtected):
        TaskType.objects.all().delete()
    assert set(TaskType.objects.filter(pk__in=[standard.pk, other.pk])) == {standard, other}


def test_a_standard_type_is_not_renamed(standard):
    standard.method = "tests.tasks.fail"

    with pytest.raises(StandardTypeProtected):
        standard.save()


def test_a_standard_type_that_was_read_again_is_not_renamed(standard):
    again = TaskType.objects.get(pk=standard.pk)
    again.method = "tests.tasks.fail"

    with pytest.raises(StandardTypeProtected, match=r"tests\.tasks\.add"):
        again.save(update_fields=["method"])


def test_a_standard_type_read_without_its_method_is_not_renamed(standard):
    again = TaskType.objects.defer("method").get(pk=standard.pk)
    again.method = "tests.tasks.fail"

    with pytest.raises(StandardTypeProtected):
        again.save()


@pytest.mark.parametrize("values", [{"method": "x.y"}, {"is_standard": False}])
def test_a_standard_type_is_not_renamed_in_bulk(standard, values):
    with pytest.raises(StandardTypeProtected):
        TaskType.objects.filter(pk=standard.pk).update(**values)


def test_a_standard_type_is_not_renamed_by_bulk_update(standard):
    standard.method = "tests.tasks.fail"

    with pytest.raises(StandardTypeProtected):
        TaskType.objects.bulk_update([standard], ["method"])


def test_a_standard_type_is_not_made_an_ordinary_one_to_be_deleted(standard):
    standard.is_standard = False

    with pytest.raises(StandardTypeProtected):
        standard.save()
    with pytest.raises(StandardTypeProtected):
        standard.delete()


def test_a_standard_type_can_be_changed_otherwise(standard):
    standard.concurrency_limit = 4
    standard.save()
    TaskType.objects.filter(pk=standard.pk).update(priority=9)

    standard.refresh_from_db()
    assert (standard.concurrency_limit, standard.priority) == (4, 9)


def test_an_ordinary_type_can_be_renamed_and_deleted(standard):
    other = make_type("tests.tasks.fail")
    other.method = "tests.tasks.sleep"
    other.save()
    other.delete()

    assert not TaskType.objects.filter(method__startswith="tests.tasks.s").exists()


@pytest.mark.parametrize(
    ("debug", "setting", "protected"),
    [(True, None, False), (False, None, True), (True, True, True), (False, False, False)],
)
def test_standard_types_are_protected_in_production(
    settings, conf, debug, setting, protected
):
    settings.DEBUG = debug
    conf(PROTECT_STANDARD_TYPES=setting)
    one = make_type("tests.tasks.add", is_standard=True)

    if protected:
        with pytest.raises(StandardTypeProtected):
            one.delete()
    else:
        one.delete()


# Schema


def test_the_migrations_are_up_to_date():
    call_command("makemigrations", "taskcontrol", check=True, dry_run=True, verbosity=0)


@pytest.mark.databases
def test_every_index_exists_on_every_database():
    with connection.cursor() as cursor:
        there = connection.introspection.get_constraints(cursor, TaskLog._meta.db_table)

    for index in TaskLog._meta.indexes:
        assert index.name in there, f"{index.name} is missing"
        # SQLite's introspection names no direction and no condition, but the columns.
        columns = [
            TaskLog._meta.get_field(name.lstrip("-")).column for name in index.fields
        ]
        assert there[index.name]["columns"] == columns


@pytest.mark.databases
def test_an_index_is_partial_only_where_the_database_can():
    index = next(
        one for one in TaskLog._meta.indexes if one.name == "taskcontrol_task_run_at"
    )
    editor = connection.SchemaEditorClass(connection, collect_sql=True)
    sql = str(index.create_sql(TaskLog, editor))

    assert isinstance(index, PartialIndex)
    assert (" WHERE " in sql) is connection.features.supports_partial_indexes
