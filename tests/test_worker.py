"""A boot of a worker: its dispatcher's thread, its end, and the queues that it tells Celery of."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import pytest
from celery import Celery
from kombu.entity import Queue

from taskcontrol import worker
from taskcontrol.models import Worker
from tests.factories import make_worker, seconds_ago
from tests.mainprocess import a_boot, a_row, nothing_held

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.databases]


@pytest.fixture(autouse=True)
def _nothing_held(monkeypatch):
    nothing_held(monkeypatch)


@pytest.fixture
def row():
    return a_row()


@pytest.fixture
def boot(row):
    return a_boot(row)


@pytest.fixture
def keeper(boot):
    return boot.keeper


def test_nobody_is_declared_lost_right_after_the_database_was_away(boot):
    """Then every worker seems silent, until it has given its next sign."""
    other = make_worker(last_seen_at=seconds_ago(3600))
    boot._trouble_at = time.monotonic()

    boot._rescue()
    assert Worker.objects.get(pk=other.pk).lost_at is None

    boot._trouble_at -= 60
    boot._rescue()
    assert Worker.objects.get(pk=other.pk).lost_at is not None


def test_a_pass_that_fails_is_logged_and_puts_the_rescue_off(boot, monkeypatch, caplog):
    def fails(_hands):
        raise ValueError("a bad pass")

    monkeypatch.setattr(worker, "make_pass", fails)
    boot.stopped.set()

    assert boot._dispatch_once(boot.keeper.work) is False

    assert "a bad pass" in caplog.text
    assert time.monotonic() - boot._trouble_at < 60


def test_a_worker_says_goodbye_once_and_only_in_its_own_process(boot, keeper, monkeypatch):
    said = []
    monkeypatch.setattr(keeper, "say_goodbye", lambda: said.append(1))
    pid, boot.process = boot.process, SimpleNamespace(pid=os.getpid() + 1)

    boot.stop()
    assert said == []

    boot.process = pid
    boot.stop()
    boot.stop()
    assert said == [1]


class PoolThatHasEnded:
    """As Celery's, whose parts are gone then."""

    limit = 2

    @property
    def num_processes(self):
        raise AttributeError("'NoneType' object has no attribute '_processes'")

    @property
    def info(self):
        raise AttributeError("'NoneType' object has no attribute '_pool'")


def test_what_a_pool_could_take_is_told_when_it_has_ended(boot):
    before = boot.capacity()
    boot.consumer.pool = PoolThatHasEnded()

    assert boot.capacity() == before == {"pool_size": 2, "queues": ["default"]}


def test_who_was_declared_lost_when_its_pool_had_ended_has_nobody_to_kill(boot, row):
    boot.consumer.pool = PoolThatHasEnded()

    boot.register_again()

    assert boot.row.pk != row.pk


def test_a_signal_insists_only_when_the_pool_has_ended(boot):
    boot.leave()
    assert not boot.departure._insisted

    boot.departure.write_ends()
    boot.leave()
    assert boot.departure._insisted


def test_a_worker_gives_signs_of_life_until_its_ends_are_written_p1(boot, monkeypatch):
    stopped = []
    monkeypatch.setattr(
        boot.departure, "write_ends", lambda: stopped.append(boot.stopped.is_set())
    )

    boot.stop()

    assert stopped == [False]


def test_a_queue_that_the_project_has_declared_itself_stays_as_it_is():
    quorum = {"x-queue-type": "quorum"}
    app = Celery(set_as_current=False)
    app.conf.task_queues = [Queue("short", queue_arguments=quorum)]

    worker.declare_queues(app)

    assert app.amqp.queues["short"].queue_arguments == quorum
    assert {"short", "default", "long"} <= set(app.amqp.queues)


def test_queues_are_of_the_kind_that_the_project_wants_for_all():
    app = Celery(set_as_current=False)
    app.conf.task_create_missing_queue_type = "quorum"

    worker.declare_queues(app)

    assert app.amqp.queues["long"].queue_arguments == {"x-queue-type": "quorum"}
