"""Only what has ended long ago is deleted, with all that belongs to it."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import batches, keys
from taskcontrol.exceptions import InvalidCall
from taskcontrol.models import (
    TaskAttempt,
    TaskBatch,
    TaskEvent,
    TaskKey,
    TaskLog,
    Worker,
)
from taskcontrol.options import DECLARABLE
from taskcontrol.pruning import count_prunable, delete_tasks, prune_ended_tasks
from taskcontrol.status import TERMINAL, Status
from tests.factories import make_task, make_type, make_worker, seconds_ago
from tests.test_lifecycle import statements
from tests.waiting import beside, race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]

DAY = 86400


def ended(status=Status.FINISHED, days=100, **columns):
    return make_task(status, ended_at=seconds_ago(days * DAY), **columns)


@pytest.mark.parametrize(
    ("status", "days", "goes"),
    [
        (Status.FINISHED, 29, False),
        (Status.FINISHED, 31, True),
        (Status.CANCELED, 29, False),
        (Status.CANCELED, 31, True),
        (Status.FAILED, 31, False),
        (Status.FAILED, 89, False),
        (Status.FAILED, 91, True),
    ],
)
def test_a_task_is_kept_for_the_days_of_its_status(status, days, goes):
    ended(status, days)

    assert sum(count_prunable().values()) == int(goes)
    assert prune_ended_tasks() == int(goes)
    assert TaskLog.objects.exists() is not goes


@pytest.mark.parametrize("status", sorted(set(Status) - TERMINAL))
def test_what_has_not_ended_stays_however_old_p1(status):
    make_task(status, created_at=seconds_ago(1000 * DAY))

    assert prune_ended_tasks() == 0
    assert TaskLog.objects.exists()


def test_what_is_to_be_retried_stays_p1():
    ended(Status.FAILED, 1000, retry_at=seconds_ago(1), max_retries=1)

    assert prune_ended_tasks() == 0


def test_a_body_that_still_runs_keeps_its_row_p4():
    ended(Status.CANCELED, 1000, occupies=True)

    assert prune_ended_tasks() == 0


def test_it_is_the_end_that_counts_and_not_the_beginning():
    ended(days=1, created_at=seconds_ago(1000 * DAY))

    assert prune_ended_tasks() == 0


def test_the_days_can_be_set_and_a_status_left_out_is_kept(conf):
    conf(RETENTION_DAYS={"Finished": 0.5})
    ended(days=1)
    ended(Status.FAILED, 1000)

    assert prune_ended_tasks() == 1
    assert TaskLog.objects.get().status == Status.FAILED


def test_a_type_keeps_its_tasks_for_its_own_days():
    make_type("short.lived", retention_days={"Finished": 1})
    make_type("kept.longer", retention_days={"Finished": 400, "Failed": 1})
    make_type("kept.for.ever", retention_days={"Finished": None})
    make_type("as.the.site.says", retention_days={})
    for method in ("short.lived", "kept.longer", "kept.for.ever", "as.the.site.says"):
        for status, days in (("Finished", 2), ("Finished", 100), ("Failed", 2)):
            ended(Status(status), days, method=method)

    assert count_prunable() == {"Canceled": 0, "Failed": 1, "Finished": 3}
    assert prune_ended_tasks() == 4

    left = TaskLog.objects.order_by("pk").values_list("method", "status")
    assert sorted(left) == [
        ("as.the.site.says", "Failed"),
        ("as.the.site.says", "Finished"),
        ("kept.for.ever", "Failed"),
        ("kept.for.ever", "Finished"),
        ("kept.for.ever", "Finished"),
        ("kept.longer", "Finished"),
        ("kept.longer", "Finished"),
        ("short.lived", "Failed"),
    ]


def test_tasks_without_a_type_are_pruned_too():
    ended(method="nobody.declared.this")

    assert prune_ended_tasks() == 1


@pytest.mark.parametrize(("limit", "goes"), [(None, 0), (3, 2), (5, 0), (0, 5)])
def test_of_each_type_only_the_newest_failures_are_kept_where_a_limit_is_set(
    conf, limit, goes
):
    conf(FAILED_LIMIT_PER_TYPE=limit)
    failed = [ended(Status.FAILED, days, method="m.one") for days in (5, 4, 3, 2, 1)]
    ended(Status.FAILED, 1, method="m.other")
    due = {"retry_at": seconds_ago(-9), "max_retries": 1}
    others = [
        ended(Status.FAILED, 9, method="m.one", **due),
        ended(Status.FAILED, 9, method="m.one", occupies=True),
        ended(Status.FINISHED, 9, method="m.one"),
    ]

    assert count_prunable()["Failed"] == goes + (limit == 0)
    assert prune_ended_tasks() == goes + (limit == 0)

    kept = set(TaskLog.objects.filter(method="m.one"))
    assert kept == {*failed[goes:], *others}


def test_failures_of_one_moment_are_counted_one_by_one(conf):
    conf(FAILED_LIMIT_PER_TYPE=2)
    moment = seconds_ago(60)
    failed = [make_task(Status.FAILED, ended_at=moment) for _ in range(4)]

    assert prune_ended_tasks() == 2
    assert set(TaskLog.objects.all()) == set(failed[2:])


def test_the_profile_of_the_seeds_keeps_what_they_keep(conf):
    conf(
        RETENTION_DAYS={"Finished": 10 / 1440, "Canceled": 10 / 1440, "Failed": 7},
        FAILED_LIMIT_PER_TYPE=1000,
    )
    goes = [
        make_task(Status.FINISHED, ended_at=seconds_ago(700)),
        make_task(Status.CANCELED, ended_at=seconds_ago(700)),
        ended(Status.FAILED, 8),
    ]
    stays = [
        make_task(Status.FINISHED, ended_at=seconds_ago(500)),
        ended(Status.FAILED, 6),
    ]

    assert prune_ended_tasks() == len(goes)
    assert set(TaskLog.objects.all()) == set(stays)


@pytest.mark.parametrize(
    "wrong",
    [
        {"Started": 1},
        {"Finished": -1},
        {"Finished": "7"},
        {"Finished": True},
        {"Finished": 4000},
        [7],
        7,
    ],
)
def test_days_that_no_type_can_have_are_refused(wrong):
    with pytest.raises(InvalidCall) as refused:
        DECLARABLE["retention_days"]("retention_days", wrong)

    assert str(refused.value) == (
        "retention_days must be days by Canceled, Failed, Finished, 0 to 3650 or None for "
        f'ever: {{"Finished": 7}}, not {wrong!r}.'
    )


def test_what_belongs_to_a_task_goes_with_it():
    for task in (ended(), make_task()):
        TaskAttempt.objects.create(task=task, attempt=1, status="Failed")
        TaskEvent.objects.create(task=task, kind="gone")
        TaskKey.objects.create(task=task, key=task.name)

    prune_ended_tasks()

    kept = TaskLog.objects.get()
    for model in (TaskAttempt, TaskEvent, TaskKey):
        assert list(model.objects.values_list("task", flat=True)) == [kept.pk]


def test_many_go_page_by_page(conf):
    conf(SWEEP_PAGE=3)
    for _ in range(10):
        ended()

    assert prune_ended_tasks() == 10


def test_a_sweep_has_an_end_and_starves_no_type(conf):
    conf(SWEEP_PAGE=3)
    for _ in range(10):
        ended(method="m.many")
    ended(method="n.few")

    assert prune_ended_tasks(seconds=0) == 4
    assert set(TaskLog.objects.values_list("method", flat=True)) == {"m.many"}
    assert [prune_ended_tasks(seconds=0) for _ in range(4)] == [3, 3, 1, 0]


def test_a_batch_keeps_the_numbers_of_its_members_p9():
    for name, status in [("a", Status.FINISHED)] * 3 + [
        ("a", Status.FAILED),
        ("b", "Canceled"),
    ]:
        ended(Status(status), batch_id=name)
    ended(days=1, batch_id="a")
    for name, total in (("a", 5), ("b", 1)):
        TaskBatch.objects.create(id=name, total=total)
    before = batches.progress("a"), batches.progress("b")

    assert prune_ended_tasks() == 5

    assert (batches.progress("a"), batches.progress("b")) == before
    assert TaskBatch.objects.get(pk="a").pruned == {"Finished": 3, "Failed": 1}
    ended(batch_id="a")
    prune_ended_tasks()
    assert TaskBatch.objects.get(pk="a").pruned == {"Finished": 4, "Failed": 1}


def test_workers_that_are_long_gone_go_unless_something_still_holds_a_place_there():
    old, holding = (make_worker(last_seen_at=seconds_ago(8 * DAY)) for _ in range(2))
    recent = make_worker(last_seen_at=seconds_ago(DAY))
    make_task(Status.STARTED, worker=holding)
    make_task(Status.FINISHED, worker=old)

    prune_ended_tasks()

    assert set(Worker.objects.values_list("pk", flat=True)) == {holding.pk, recent.pk}
    assert TaskLog.objects.filter(worker=old.pk).exists()


def test_tasks_are_deleted_by_hand_only_when_they_have_ended():
    ids = [
        make_task(Status.FINISHED).pk,
        make_task(Status.STARTED).pk,
        make_task(Status.CANCELED, occupies=True).pk,
        make_task(Status.FAILED, retry_at=seconds_ago(1)).pk,
    ]

    assert delete_tasks(ids) == 1
    assert set(TaskLog.objects.values_list("pk", flat=True)) == set(ids[1:])


def test_many_are_deleted_by_hand_page_by_page(conf):
    conf(SWEEP_PAGE=2)
    ids = [make_task(Status.FINISHED).pk for _ in range(5)]

    assert delete_tasks(ids) == 5


def test_a_page_costs_the_same_number_of_statements_whatever_it_holds():
    def cost(count):
        for _ in range(count):
            ended(batch_id="a")
        with CaptureQueriesContext(connection) as queries:
            prune_ended_tasks()
        return len(statements(queries))

    TaskBatch.objects.create(id="a")
    assert cost(2) == cost(20)


@pytest.mark.django_db(transaction=True)
def test_two_who_prune_at_once_count_each_member_once_p9(conf):
    conf(SWEEP_PAGE=5)
    TaskBatch.objects.create(id="a", total=40)
    for _ in range(40):
        ended(batch_id="a")

    answers = race(*[prune_ended_tasks] * 3)

    assert sum(answers) + prune_ended_tasks() == 40
    assert TaskBatch.objects.get().pruned == {"Finished": 40}


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_key_that_somebody_holds_is_left_and_means_nothing():
    task = ended()
    TaskKey.objects.create(task=task, key="nightly")

    with transaction.atomic():
        keys.lock([keys.Key("nightly")])
        assert beside(prune_ended_tasks) == 1

    assert TaskKey.objects.get().key == "nightly"
    assert keys.holders([keys.Key("nightly")]) == {keys.Key("nightly"): {}}


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_page_that_loses_against_somebody_else_goes_the_next_time():
    task = ended(batch_id="a")
    batch = TaskBatch.objects.create(id="a", total=1)

    def impatiently(call):
        on_mariadb = connection.vendor == "mysql"
        with connection.cursor() as cursor:
            cursor.execute(
                "SET innodb_lock_wait_timeout = 1"
                if on_mariadb
                else "SET lock_timeout = 100"
            )
        return call()

    with transaction.atomic():
        TaskBatch.objects.select_for_update().get(pk=batch.pk)
        assert beside(lambda: impatiently(prune_ended_tasks)) == 0
        with pytest.raises(DatabaseError):
            beside(lambda: impatiently(lambda: in_one_transaction([task.pk])))

    assert prune_ended_tasks() == 1


def in_one_transaction(ids):
    with transaction.atomic():
        return delete_tasks(ids)


@pytest.mark.django_db(transaction=True)
@pytest.mark.only_on("postgresql", "mysql")
def test_a_row_that_somebody_holds_is_left():
    held, _ = ended(), ended()

    with transaction.atomic():
        TaskLog.objects.select_for_update().get(pk=held.pk)
        answer = beside(prune_ended_tasks)

    assert answer == 1
    assert TaskLog.objects.get() == held
