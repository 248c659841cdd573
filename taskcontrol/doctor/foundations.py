"""Examines what tasks stand on: settings, database, broker and bell."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks
from django.db import OperationalError, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from .. import bell, broker, dialect, referee
from ..conf import conf
from ..exceptions import BrokerUnavailable
from ..wording import counted, duration, listed, one_line
from .findings import Finding, Level

#: Seconds by which two clocks may differ: times in logs and rows are then still comparable.
CLOCK_TOLERANCE = 2.0


def examine_settings() -> Iterator[Finding]:
    """Yield what the system checks say."""
    messages = [
        one for one in checks.run_checks(tags=["taskcontrol"]) if not one.is_silenced()
    ]
    for one in messages:
        level = Level.FAIL if one.is_serious() else Level.WARN
        yield Finding(level, "Settings", f"{one.msg} ({one.id})", one.hint or "")
    if not messages:
        yield Finding(Level.OK, "Settings", "as taskcontrol needs them")


def examine_database() -> Iterator[Finding]:
    """Yield whether the database answers, agrees about the time, and is migrated."""
    try:
        connections[conf.DATABASE].ensure_connection()
    except OperationalError as error:
        yield Finding(
            Level.FAIL,
            "Database",
            f"does not answer: {one_line(error)}",
            f"Start it, or correct DATABASES[{conf.DATABASE!r}].",
        )
        return
    yield from _examine_clock()
    yield from _examine_migrations()


def examine_referee() -> Iterator[Finding]:
    """Yield whether the triggers are there that check every move, and what they have found."""
    if not referee.is_possible():
        return
    state, recorded = referee.state(), referee.recorded()
    said = referee.describe(state)
    last = recorded.first()
    if last is not None:
        what = counted(recorded.count(), "incident")
        text = f"{said}; {what} recorded, at last: {last.found}"
        advice = (
            "A fault of taskcontrol, or somebody else writes to its tables: docs/referee.md"
        )
        yield Finding(Level.FAIL, "Referee", text, advice)
    elif state is None:
        yield Finding(Level.OK, "Referee", f"{said}; it is optional")
    elif state.missing or not state.current:
        advice = f"manage.py taskcontrol referee install --{state.mode}"
        yield Finding(Level.WARN, "Referee", said, advice)
    else:
        yield Finding(Level.OK, "Referee", said)


def _examine_clock() -> Iterator[Finding]:
    before = timezone.now()
    there = dialect.now(conf.DATABASE)
    here = before + (timezone.now() - before) / 2
    ahead = (there - here).total_seconds()
    name = connections[conf.DATABASE].display_name
    if abs(ahead) > CLOCK_TOLERANCE:
        side = "ahead of" if ahead > 0 else "behind"
        yield Finding(
            Level.WARN,
            "Database",
            f"{name} answers; its clock is {duration(abs(ahead))} {side} this machine's",
            "Tasks go by the database's clock alone; let both machines keep time by NTP.",
        )
    else:
        yield Finding(Level.OK, "Database", f"{name} answers, and its clock agrees")


def _examine_migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connections[conf.DATABASE])
    leaves = executor.loader.graph.leaf_nodes("taskcontrol")
    missing = [str(migration) for migration, _ in executor.migration_plan(leaves)]
    if missing:
        yield Finding(
            Level.FAIL,
            "Database",
            f"{counted(len(missing), 'migration is', 'migrations are')} not applied: "
            f"{listed(missing)}",
            "Run manage.py migrate.",
        )


def examine_broker() -> Iterator[Finding]:
    """Yield whether the broker answers."""
    try:
        broker.check()
    except BrokerUnavailable as error:
        yield Finding(
            Level.FAIL, "Broker", str(error), "Start it, or correct CELERY_BROKER_URL."
        )
    else:
        yield Finding(Level.OK, "Broker", "answers")


def examine_bell() -> Iterator[Finding]:
    """Yield whether the bell's Redis answers."""
    try:
        client = bell.connect(timeout=1)
        if client is None:
            yield Finding(Level.OK, "Bell", "no Redis: a pass is made each second")
            return
        with client:
            client.ping()
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the finding
        yield Finding(
            Level.WARN,
            "Bell",
            f"its Redis does not answer ({one_line(error)}); tasks start up to a second later",
            'Start it, or correct TASKCONTROL["REDIS_URL"].',
        )
    else:
        yield Finding(Level.OK, "Bell", "its Redis answers")
