"""Fixtures: the database and the broker of the run, and workers that tests start and break."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from django.db import connections
from django.test.utils import setup_databases, teardown_databases

from taskcontrol import context, side, tasktypes
from taskcontrol.events import task_status_changed
from tests import refereeing
from tests.lab import BROKER_SOCKET, LAB, RECORD
from tests.recording import Record
from tests.servers.beat import Beat
from tests.servers.databases import start_server
from tests.servers.missing import ServerMissing
from tests.servers.redis import Redis
from tests.servers.worker import Worker
from tests.workshop import Workshop

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

MARKERS = (
    "databases: the database makes the difference; also run on MariaDB",
    "only_on(*vendors): needs one of these databases, by Django's vendor name",
    "refused: something in it breaks a rule, and the referee is to refuse it",
)


class News(NamedTuple):
    """One change of status as a receiver hears of it."""

    task_id: int
    old: str
    new: str
    message: Any
    error: str | None


def pytest_configure(config: pytest.Config) -> None:
    # A shell that starts the tests in the background lets them, and all they start, ignore
    # what tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests with a live worker last: before them tables may still be truncated.

    Of these come those first that share one: the others end it.
    """
    items.sort(key=_needs_workers)
    for item in items:
        wanted = item.get_closest_marker("only_on")
        if wanted and connections["default"].vendor not in wanted.args:
            why = f"needs {' or '.join(wanted.args)}"
            item.add_marker(pytest.mark.skip(reason=why))


def _needs_workers(item: pytest.Item) -> tuple[bool, bool]:
    fixtures = getattr(item, "fixturenames", ())
    return "workshop" in fixtures, "start_worker" in fixtures


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Leave the counts and what failed for ``tests.run``, which sums up the runs."""
    path = os.environ.get("TASKCONTROL_TEST_SUMMARY")
    if path:
        stats = terminalreporter.stats
        kinds = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "deselected")
        bad = [
            report.nodeid for kind in ("failed", "error") for report in stats.get(kind, ())
        ]
        summary = {
            "counts": {kind: len(stats.get(kind, ())) for kind in kinds},
            "bad": sorted(set(bad)),
        }
        Path(path).write_text(json.dumps(summary))


@pytest.fixture(scope="session")
def database_server() -> Iterator[Any]:
    """Start the server of the run's database; None where there is none to start."""
    try:
        server = start_server(connections["default"].settings_dict, LAB)
    except ServerMissing as why:
        pytest.exit(str(why), returncode=5)
    yield server
    if server is not None:
        server.stop()


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, database_server: Any
) -> Iterator[None]:
    """Make the test database, also for tests that use it through real workers alone."""
    with django_db_blocker.unblock():
        old = setup_databases(verbosity=0, interactive=False)
        # Django lets tests use only what it knows: ``databases="__all__"`` has this one too.
        home = connections["default"].settings_dict
        mirror = {**home["TEST"], "MIRROR": "default"}
        connections.settings[side.ALIAS] = {**home, "TEST": mirror}
        refereeing.install()
    yield
    with django_db_blocker.unblock():
        connections[side.ALIAS].close()
        teardown_databases(old, verbosity=0)


@pytest.fixture(scope="session")
def _refusals(database_server: Any) -> refereeing.Refusals:
    server = database_server if connections["default"].vendor == "postgresql" else None
    return refereeing.Refusals(server and server.directory.with_suffix(".log"))


@pytest.fixture(autouse=True)
def _referee(request: pytest.FixtureRequest, _refusals: refereeing.Refusals):
    """No process breaks a rule of a task's life, not even where its error is caught."""
    yield
    refused = _refusals.new()
    assert request.node.get_closest_marker("refused") or not refused, "\n".join(refused)


@pytest.fixture(scope="session")
def broker_server() -> Iterator[Redis]:
    """Start the broker of the run."""
    server = Redis(BROKER_SOCKET)
    server.start()
    yield server
    server.process.kill()


@pytest.fixture
def broker(broker_server: Redis) -> Iterator[Redis]:
    """The broker of the run, empty; a test may stop, kill, freeze and flush it."""
    broker_server.start()
    broker_server.flush()
    yield broker_server
    broker_server.thaw() if broker_server.process.running else broker_server.start()


@pytest.fixture
def record() -> Record:
    """What bodies write down, empty."""
    written = Record(RECORD)
    written.clear()
    return written


@pytest.fixture(scope="session")
def _workshop(django_db_setup: None, django_db_blocker: Any, broker_server: Redis):
    with django_db_blocker.unblock():
        workshop = Workshop()
    yield workshop
    with django_db_blocker.unblock():
        workshop.close_all()


@pytest.fixture
def workshop(
    _workshop: Workshop, django_db_blocker: Any, broker: Redis, record: Record
) -> Iterator[Workshop]:
    """Real workers on the real database: rows are committed, and deleted afterwards."""
    with django_db_blocker.unblock():
        _workshop.open()
        try:
            yield _workshop
        finally:
            _workshop.clear()
            connections.close_all()


@pytest.fixture
def worker(workshop: Workshop) -> Worker:
    """A ready worker with two slots for every queue; shared, so start it once."""
    return workshop.shared_worker()


@pytest.fixture
def start_worker(workshop: Workshop) -> Iterator[Callable[..., Worker]]:
    """Start workers of one's own: ``start_worker(["long"], concurrency=1, pool="solo")``.

    The one that other tests share ends before, lest it takes what is meant for them.
    """
    workshop.close()
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(Worker(*args, **options))


@pytest.fixture
def start_workers(
    start_worker: Callable[..., Worker],
) -> Iterator[Callable[..., list[Worker]]]:
    """Start several at the same time: ``start_workers({"concurrency": 4}, {})``."""
    with ExitStack() as stack:

        def start(*options: dict[str, Any]) -> list[Worker]:
            workers = [Worker(**one) for one in options]
            for one in workers:
                one.launch()
                stack.callback(one.clear_away)
            return [one.start() for one in workers]

        yield start


@pytest.fixture
def start_beat(workshop: Workshop) -> Iterator[Callable[..., Beat]]:
    """Start beats."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Beat(**options))


@pytest.fixture(autouse=True)
def fresh_types() -> None:
    """Forget the task types that this process remembers from another test."""
    tasktypes.forget()


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget that this process has run bodies and answered requests in another test."""
    monkeypatch.setattr(context._Process, "serves", False)


@pytest.fixture
def news() -> Iterator[list[News]]:
    """What ``task_status_changed`` told, in order."""
    told: list[News] = []

    def listen(task: Any, old: str, new: str, message: Any, error: Any, **_: Any) -> None:
        told.append(News(task.pk, old, new, message, error))

    task_status_changed.connect(listen)
    yield told
    task_status_changed.disconnect(listen)


@pytest.fixture
def conf(settings: Any) -> Callable[..., None]:
    """Set keys of ``TASKCONTROL`` for one test: ``conf(LOST_LIMIT=1)``."""

    def change(**values: Any) -> None:
        settings.TASKCONTROL = {**settings.TASKCONTROL, **values}

    return change
