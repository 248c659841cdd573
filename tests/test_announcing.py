"""Who listens hears of each committed change once, in order, where user code may run."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from taskcontrol import announcing, lifecycle
from taskcontrol.context import without_user_code
from taskcontrol.events import task_status_changed
from taskcontrol.models import Announcement, TaskEvent, TaskLog
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


def test_a_news_waits_while_an_earlier_one_of_its_task_is_being_told(news):
    task = make_task()
    with without_user_code():
        lifecycle.pause(task.pk)
        lifecycle.resume(task.pk)
    first = Announcement.objects.order_by("pk")[0]
    Announcement.objects.filter(pk=first.pk).update(taken_at=seconds_ago(1))

    assert announcing.deliver_stored() == 0

    first.delete()
    assert announcing.deliver_stored() == 1
    assert moves(news) == [("Paused", "Pending")]


@pytest.mark.django_db
def test_news_that_somebody_died_over_is_told_again(news):
    task = make_task()
    with without_user_code():
        lifecycle.pause(task.pk)
    Announcement.objects.update(taken_at=seconds_ago(announcing.TELLING_TAKES + 1))

    assert announcing.deliver_stored() == 1


@pytest.mark.django_db(transaction=True)
def test_news_that_end_whoever_tells_them_are_given_up_and_that_is_shown_p11():
    told = []

    def deadly(task, **_):
        told.append(task.pk)
        raise SystemExit

    task = make_task()
    task_status_changed.connect(deadly)
    try:
        with without_user_code():
            lifecycle.pause(task.pk)
        for _ in range(announcing.MOST_TELLINGS):
            with pytest.raises(SystemExit):
                announcing.deliver_stored()
        assert announcing.deliver_stored() == 1
    finally:
        task_status_changed.disconnect(deadly)

    assert told == [task.pk] * announcing.MOST_TELLINGS
    assert not Announcement.objects.exists()
    event = TaskEvent.objects.get(kind=TaskEvent.Kind.CALLBACK)
    assert event.task_id == task.pk
    assert "Pending -> Paused was told 5 times" in event.detail


def test_what_takes_long_is_left_to_the_next_telling(news, monkeypatch):
    for task in [make_task() for _ in range(2)]:
        with without_user_code():
            lifecycle.pause(task.pk)
    monkeypatch.setattr(announcing, "TELLING_TAKES", -1)

    assert announcing.deliver_stored() == 0
    monkeypatch.undo()
    assert announcing.deliver_stored() == 2


# Tasks that are heard by more than the receivers of the signal


@pytest.fixture
def told(monkeypatch):
    """What a teller was told, in order; there are no others."""
    heard = []

    def tell(task, news):
        heard.append((task.pk, news.old, news.new, news.error))

    monkeypatch.setattr(announcing, "TELLERS", [tell])
    return heard


def whole_road(task):
    lifecycle.promote([task.pk], site="s")
    lifecycle.claim(task.pk, 1, worker_id=None, pid=1)
    lifecycle.fail(task.pk, 1, error="ValueError: no")
    lifecycle.retry_by_hand(task.pk, Status.FAILED)
    lifecycle.cancel(task)


@pytest.mark.django_db(transaction=True)
def test_every_change_of_a_heard_task_is_told_without_any_receiver(told):
    heard, plain = make_task(heard=True), make_task()

    for task in (plain, heard):
        whole_road(task)

    assert told == [
        (heard.pk, "Pending", "Queued", ""),
        (heard.pk, "Queued", "Started", ""),
        (heard.pk, "Started", "Failed", "ValueError: no"),
        (heard.pk, "Failed", "Pending", ""),
        (heard.pk, "Pending", "Canceled", ""),
    ]


@pytest.mark.django_db(transaction=True)
def test_only_the_heard_ones_among_several_are_told(told):
    tasks = [make_task(heard=number % 2 == 0) for number in range(4)]

    lifecycle.promote([task.pk for task in tasks], site="s")

    assert TaskLog.objects.filter(status=Status.QUEUED).count() == 4
    assert sorted(one[0] for one in told) == [tasks[0].pk, tasks[2].pk]


@pytest.mark.django_db(transaction=True)
def test_a_move_that_is_lost_is_not_told_of(told):
    task = make_task(Status.QUEUED, heard=True)

    assert lifecycle.claim(task.pk, 7, worker_id=None, pid=1) is None
    assert lifecycle.finish(task.pk, 1) is False

    assert told == []
    assert not Announcement.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_move_of_a_heard_task_is_not_told_of(told):
    task = make_task(Status.QUEUED, heard=True)

    with suppress(ValueError), transaction.atomic():
        lifecycle.claim(task.pk, 1, worker_id=None, pid=1)
        raise ValueError

    assert told == []
    assert announcing.deliver_stored() == 0


@pytest.mark.django_db(transaction=True)
def test_where_user_code_may_not_run_a_heard_task_is_told_of_later(told):
    task = make_task(heard=True)
    with without_user_code():
        whole_road(task)
    assert told == []
    assert announcing.has_stored()

    assert announcing.deliver_stored() == 5

    assert [new for _, _, new, _ in told] == [
        "Queued",
        "Started",
        "Failed",
        "Pending",
        "Canceled",
    ]


@pytest.mark.django_db(transaction=True)
def test_a_teller_that_raises_stops_neither_the_others_nor_the_task(
    told, monkeypatch, caplog
):
    def broken(task, news):
        raise RuntimeError("teller")

    monkeypatch.setattr(announcing, "TELLERS", [broken, *announcing.TELLERS])
    task = make_task(heard=True)

    whole_road(task)

    assert len(told) == 5
    assert caplog.text.count("broken failed at the news") == 5


@pytest.mark.only_on("postgresql", "sqlite")
@pytest.mark.parametrize("heard", [False, True])
def test_the_move_of_a_plain_task_is_one_statement(heard, django_assert_num_queries):
    task = make_task(Status.QUEUED, heard=heard)
    # tried as a plain one, then with what is to be told
    with django_assert_num_queries(3 if heard else 1), without_user_code():
        lifecycle.claim(task.pk, 1, worker_id=None, pid=1)
