"""Receivers hear of each committed change once, in order, and where their code may run."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import announcing, lifecycle
from taskcontrol.context import without_user_code
from taskcontrol.events import task_status_changed
from taskcontrol.models import Announcement, TaskLog
from taskcontrol.status import Status
from tests.factories import make_task, seconds_ago
from tests.waiting import race

pytestmark = [pytest.mark.django_db, pytest.mark.databases]


def moves(news):
    return [(one.old, one.new) for one in news]


def test_without_a_receiver_nothing_is_stored_or_asked():
    assert announcing.anyone_listens() is False
    task = make_task()

    with without_user_code(), CaptureQueriesContext(connection) as queries:
        lifecycle.pause(task.pk)

    assert not any("announcement" in one["sql"] for one in queries)
    assert announcing.has_stored() is False


@pytest.mark.django_db(transaction=True)
def test_a_change_is_told_after_its_commit_with_the_row_as_it_is(news):
    told = []

    def listen(task, **_):
        told.append((task.status, task.rev, connection.in_atomic_block))

    task_status_changed.connect(listen)
    task = make_task()
    try:
        with transaction.atomic():
            lifecycle.pause(task.pk, reason="why")
            assert news == []
    finally:
        task_status_changed.disconnect(listen)

    assert told == [(Status.PAUSED, 1, False)]
    assert news == [(task.pk, Status.PENDING, Status.PAUSED, "why", None)]


@pytest.mark.django_db(transaction=True)
def test_what_was_stored_before_is_told_first(news):
    task = make_task()
    with without_user_code():
        lifecycle.promote([task.pk], site="s")
    assert news == []

    lifecycle.claim(task.pk, 1, worker_id=None, pid=1)

    assert moves(news) == [("Pending", "Queued"), ("Queued", "Started")]
    assert announcing.has_stored() is False


@pytest.mark.django_db(transaction=True)
def test_what_was_stored_is_delivered_in_order_and_once(news):
    tasks = [make_task() for _ in range(3)]
    with without_user_code():
        for task in tasks:
            lifecycle.pause(task.pk)
        for task in tasks:
            lifecycle.cancel(task, reason="no")

    assert announcing.deliver_stored(limit=4) == 4
    assert announcing.deliver_stored() == 2
    assert announcing.deliver_stored() == 0

    assert [one.task_id for one in news] == [task.pk for task in tasks] * 2
    assert moves(news) == [("Pending", "Paused")] * 3 + [("Paused", "Canceled")] * 3


@pytest.mark.django_db(transaction=True)
def test_news_of_a_task_that_is_gone_is_dropped(news):
    task = make_task()
    with without_user_code():
        lifecycle.pause(task.pk)
    TaskLog.objects.all().delete()

    assert announcing.deliver_stored() == 1
    assert news == []
    assert not Announcement.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_crash_of_the_deliverer_tells_again(news):
    task = make_task()
    with without_user_code():
        lifecycle.pause(task.pk)

    def crash(**_):
        raise SystemExit

    task_status_changed.connect(crash)
    with pytest.raises(SystemExit):
        announcing.deliver_stored()
    task_status_changed.disconnect(crash)

    assert announcing.deliver_stored() == 1
    assert moves(news) == [("Pending", "Paused")] * 2


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_raises_stops_neither_the_others_nor_the_delivery(news, caplog):
    def broken(**_):
        raise ValueError("receiver")

    task_status_changed.connect(broken)
    tasks = [make_task(), make_task()]
    with without_user_code():
        for task in tasks:
            lifecycle.pause(task.pk)
    try:
        assert announcing.deliver_stored() == 2
    finally:
        task_status_changed.disconnect(broken)

    assert len(news) == 2
    assert caplog.text.count("Receiver <function") == 2


@pytest.mark.django_db(transaction=True)
def test_a_receiver_may_move_the_task_on(news):
    def go_on(task, new, **_):
        if new == Status.PAUSED:
            lifecycle.resume(task.pk)

    task_status_changed.connect(go_on)
    try:
        lifecycle.pause(make_task().pk)
    finally:
        task_status_changed.disconnect(go_on)

    assert moves(news) == [("Pending", "Paused"), ("Paused", "Pending")]


@pytest.mark.django_db(transaction=True)
def test_news_of_one_task_is_told_in_order_by_however_many_tellers(news):
    tasks = [make_task() for _ in range(6)]
    with without_user_code():
        for task in tasks:
            lifecycle.pause(task.pk)
        for task in tasks:
            lifecycle.resume(task.pk)

    race(*[announcing.deliver_stored] * 4)
    announcing.deliver_stored()

    for task in tasks:
        told = [(one.old, one.new) for one in news if one.task_id == task.pk]
        assert told == [("Pending", "Paused"), ("Paused", "Pending")]


@pytest.mark.django_db
def test_news_that_somebody_died_over_is_told_again(news):
    task = make_task()
    with without_user_code():
        lifecycle.pause(task.pk)
    Announcement.objects.update(taken_at=seconds_ago(announcing.TELLING_TAKES + 1))

    assert announcing.deliver_stored() == 1
