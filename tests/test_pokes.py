"""Pokes: live pages hear at once of what was committed, and nobody pays when none is open."""

from __future__ import annotations

import pytest
from django.db import transaction

import taskcontrol
from taskcontrol import bell, pokes
from tests import tasks
from tests.factories import make_task
from tests.integration.watching import ended
from tests.waiting import always, eventually, within


@pytest.fixture
def redis(broker):
    """The Redis of the pokes, and a process that has not asked it yet."""
    pokes._current = None
    yield bell.connect(timeout=5)
    pokes._current = None


@pytest.fixture
def heard(redis):
    """What is published, while somebody says that he watches."""
    redis.set(pokes.WATCHED, 1)
    channel = redis.pubsub(ignore_subscribe_messages=True)
    channel.subscribe(pokes.CHANNEL)
    channel.get_message(timeout=5)

    def take():
        message = channel.get_message(timeout=0.1)
        return message["data"].decode() if message else None

    yield take
    channel.close()


@pytest.mark.django_db(transaction=True)
def test_a_move_is_told_after_its_commit_and_not_before(heard):
    task = make_task()
    with transaction.atomic():
        taskcontrol.pause(task)
        always(lambda: heard() is None, 0.3)
    assert eventually(heard) == task.name


@pytest.mark.django_db(transaction=True)
def test_a_move_that_is_rolled_back_is_not_told_p2(heard):
    task = make_task()
    with transaction.atomic():
        taskcontrol.pause(task)
        transaction.set_rollback(True)
    always(lambda: heard() is None, 0.3)


def test_many_tasks_are_told_in_few_messages(heard):
    pokes.poke(range(1, 2501))
    parts = [eventually(heard) for _ in range(3)]
    assert [len(part.split(",")) for part in parts] == [1000, 1000, 500]


def test_while_nobody_watches_redis_is_asked_once_a_second(redis):
    pokes.poke([1])
    poker = eventually(lambda: pokes._poker().sleeps() and pokes._poker())
    asked = redis.info("commandstats")["cmdstat_exists"]["calls"]
    for key in range(1000):
        pokes.poke([key])
    assert redis.info("commandstats")["cmdstat_exists"]["calls"] == asked
    assert not poker._changed


def test_without_redis_nothing_is_begun(conf, settings):
    settings.CELERY_BROKER_URL = "amqp://localhost"
    conf(REDIS_URL=None)
    pokes._current = None
    pokes.poke([1])
    assert pokes._poker()._thread is None
    assert pokes._poker().sleeps()
    pokes._current = None


def test_a_redis_that_is_away_harms_nobody(broker, redis):
    broker.stop()
    with within(1):
        pokes.poke([1])
    eventually(pokes._poker().sleeps)


@pytest.mark.integration
def test_a_running_body_is_told_of(worker, heard):
    def told():
        task = ended(taskcontrol.enqueue(tasks.report, total=2))
        return list(iter(heard, None)).count(task.name) >= 2

    # A process that has just asked in vain whether anybody watches asks again a second later.
    eventually(told)
