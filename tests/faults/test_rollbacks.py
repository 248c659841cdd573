"""P2: an enqueue that is rolled back leaves no row, no message and no event, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from django.apps import apps
from django.core.handlers.base import BaseHandler
from django.db import DatabaseError, connection, connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory
from redis import Redis as Client

import taskcontrol
from taskcontrol import bell
from tests import tasks
from tests.faults.figures import figure
from tests.faults.tiers import sized
from tests.waiting import eventually

pytestmark = pytest.mark.integration

COUNT = sized(50, 1000)


#: What a client says when it connects, as the one does that tells us that all was heard.
GREETINGS = ("HELLO", "CLIENT")


class Thrown(Exception):
    """What goes wrong after the enqueue."""


def enqueue(number: int) -> None:
    """Enqueue in one of the ways that write something else beside the row."""
    if number % 3 == 0:
        taskcontrol.enqueue(tasks.recorded, job_id=f"job-{number}", deduplicate=True)
    elif number % 3 == 1:
        taskcontrol.bulk_enqueue([{"method": tasks.recorded}] * 2)
    else:
        taskcontrol.cancel(taskcontrol.enqueue(tasks.recorded))


def by_an_exception(number: int) -> None:
    with suppress(Thrown), transaction.atomic():
        enqueue(number)
        raise Thrown


def by_a_savepoint(number: int) -> None:
    with transaction.atomic(), suppress(Thrown), transaction.atomic():
        enqueue(number)
        raise Thrown


def by_sigkill(number: int) -> None:
    """A process of its own, as a web worker that is killed before its COMMIT."""
    child = os.fork()
    if not child:
        with suppress(BaseException):
            # The parent's connection is not this process's to close.
            connections["default"].connection = None
            with transaction.atomic():
                enqueue(number)
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def by_a_request(number: int) -> None:
    """ATOMIC_REQUESTS: the view enqueues and fails, and the page is a 500."""

    def view(_request: object) -> HttpResponse:
        enqueue(number)
        raise Thrown

    with suppress(Thrown):
        BaseHandler().make_view_atomic(view)(RequestFactory().get("/"))


def by_a_lost_connection(number: int) -> None:
    """The connection is gone when COMMIT is to be said."""
    with pytest.raises(DatabaseError):
        _lose_the_connection_at_commit(number)
    connection.close()


@transaction.atomic
def _lose_the_connection_at_commit(number: int) -> None:
    enqueue(number)
    with closing(connection.copy()) as other, other.cursor() as cursor:
        pid = connection.connection.info.backend_pid
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert cursor.fetchone() == (True,)


WAYS = [by_an_exception, by_a_savepoint, by_sigkill, by_a_request, by_a_lost_connection]


@contextmanager
def heard(broker) -> Iterator[list[str]]:
    """Keep every command that the broker gets."""
    commands: list[str] = []
    client = Client.from_url(broker.url)
    with client, client.monitor() as monitor:
        yield commands
        broker.flush()  # the last one, so that all before it were heard
        for said in monitor.listen():
            if said["command"] == "FLUSHALL":
                return
            if not said["command"].startswith(GREETINGS):
                commands.append(said["command"])


def test_whatever_is_rolled_back_leaves_nothing_p2(workshop, broker, news):
    workshop.close()  # a worker says things of its own to the broker
    before = rows()
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    left = {}
    try:
        with heard(broker) as commands:
            for way in WAYS:
                for number in range(COUNT):
                    way(number)
                left[way.__name__] = rows()
    finally:
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = False

    assert left == {way.__name__: before for way in WAYS}
    assert commands == []
    assert news == []
    # What is committed is seen and heard, or else the above would say nothing.
    with heard(broker) as commands, broker.client() as client:
        with transaction.atomic():
            for number in range(3):
                enqueue(number)
            now = rows()
        eventually(lambda: client.exists(bell.KEY))
    assert {name for name in now if now[name] > before[name]} >= WRITTEN
    assert any(said.startswith("LPUSH") for said in commands)
    assert news
    figure(
        "rolled back",
        enqueues=COUNT * len(WAYS),
        tables=len(before),
        rows=0,
        messages=0,
        events=0,
        signals=0,
    )


#: What the ways to enqueue write: without it the empty tables would say nothing.
WRITTEN = {"TaskLog", "TaskEvent", "TaskKey", "Announcement"}


def rows() -> dict[str, int]:
    """Return how many rows each table of taskcontrol has."""
    models = apps.get_app_config("taskcontrol").get_models()
    return {model.__name__: model._default_manager.count() for model in models}
