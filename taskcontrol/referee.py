"""Triggers of PostgreSQL that check every move, limit and token independently of the code."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from django.db import connections, transaction

from . import lockwaits
from .conf import conf
from .exceptions import NoReferee, TableBusy
from .models import Incident

#: Seconds that installing waits for who is writing: whoever writes after it waits too.
LOCK_WAIT = 3.0

_SQL = Path(__file__).with_suffix(".sql")
#: Around each rule where nothing may be refused, not even by an error of the rule itself.
_TRY = "BEGIN"
_CATCH = """EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'The referee of taskcontrol cannot judge: % (%)', SQLERRM, SQLSTATE;
    END;"""
_TRIGGERS = ("insert", "update", "limits", "delete", "lowered", "again")
_FUNCTIONS = (*(f"{name}()" for name in _TRIGGERS), "says(bigint, integer, text, text)")
_PLACES = "places(integer, jsonb)"


class Mode(StrEnum):
    """What becomes of a write that breaks a rule."""

    #: It fails, with a sentence.
    RAISE = "raise"
    #: It goes on, and the sentence is written down as an incident.
    RECORD = "record"


class State(NamedTuple):
    """What stands in the database."""

    mode: Mode
    #: Whether its rules are those of this version.
    current: bool
    #: Triggers that are missing or switched off.
    missing: list[str]


def install(mode: Mode) -> None:
    """Put the rules into the database, or put those of this version in their place.

    Waits ``LOCK_WAIT`` seconds for who writes to the tasks, then raises TableBusy. Raises
    NoReferee where the database is not PostgreSQL.
    """
    _require()
    text = _SQL.read_text(encoding="utf-8")
    record = mode is Mode.RECORD
    given = {
        "schema": _schema(),
        "mode": mode,
        "try": _TRY if record else "",
        "catch": _CATCH if record else "",
    }
    for name, value in given.items():
        text = text.replace(f"{{{name}}}", value)
    note = f"COMMENT ON FUNCTION {given['schema']}.taskcontrol_referee_update()"
    _change(f"{text}; {note} IS '{mode} {_version()}'")


def remove() -> None:
    """Take the rules out; incidents stay. Waits and raises as ``install`` does."""
    _require()
    schema = _schema()
    tables = {"tasklog": (*_TRIGGERS[:4], "again"), "tasktype": ("lowered",)}
    drops = [
        f"DROP TRIGGER IF EXISTS taskcontrol_referee_{name} ON {schema}.taskcontrol_{table}"
        for table, names in tables.items()
        for name in names
    ]
    drops += [
        f"DROP FUNCTION IF EXISTS {schema}.taskcontrol_referee_{name}"
        for name in (*_FUNCTIONS, _PLACES)
    ]
    drops.append(f"DROP TABLE IF EXISTS {schema}.taskcontrol_referee_limit")
    _change("; ".join(drops))


def state() -> State | None:
    """Return what is installed; None when nothing is. Raises NoReferee as ``install`` does."""
    _require()
    said = _ask(
        "SELECT obj_description(oid, 'pg_proc') FROM pg_proc "
        "WHERE oid = to_regprocedure(%s)",
        f"{_schema()}.taskcontrol_referee_update()",
    )
    if not said or not said[0][0]:
        return None
    mode, _, version = said[0][0].partition(" ")
    there = _ask(
        "SELECT tgname FROM pg_trigger WHERE tgname LIKE %s AND tgenabled = 'O'",
        "taskcontrol_referee_%",
    )
    on = {name.removeprefix("taskcontrol_referee_") for (name,) in there}
    missing = [name for name in _TRIGGERS if name not in on]
    return State(Mode(mode), version == _version(), missing)


def describe(found: State | None) -> str:
    """Return in words what stands in the database."""
    if found is None:
        return "not installed"
    does = {
        Mode.RAISE: "refuses what breaks a rule",
        Mode.RECORD: "records what breaks a rule",
    }
    words = [f"installed, and {does[found.mode]}"]
    if not found.current:
        words.append("its rules are those of another version of taskcontrol")
    if found.missing:
        words.append(f"without its triggers {', '.join(found.missing)}")
    return "; ".join(words)


def recorded() -> Any:
    """Return the incidents that the referee wrote and that nobody has looked after."""
    return Incident.objects.filter(kind=Incident.Kind.ILLEGAL, resolved_at=None)


def is_possible() -> bool:
    """Return whether the database of the tasks can have a referee."""
    return connections[conf.DATABASE].vendor == "postgresql"


def _require() -> None:
    if not is_possible():
        raise NoReferee(connections[conf.DATABASE].display_name)


def _change(sql: str) -> None:
    """Run it as one change, without keeping those waiting long who wait behind it."""
    try:
        with (
            transaction.atomic(using=conf.DATABASE),
            lockwaits.at_most(LOCK_WAIT, conf.DATABASE),
            connections[conf.DATABASE].cursor() as cursor,
        ):
            cursor.execute(sql)
    except lockwaits.LockWaitOver as over:
        raise TableBusy(LOCK_WAIT) from over


def _version() -> str:
    return blake2b(_SQL.read_bytes(), digest_size=6).hexdigest()


def _schema() -> str:
    sql = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = %s::regclass"
    return str(_ask(sql, "taskcontrol_tasklog")[0][0])


def _ask(sql: str, *given: Any) -> list[tuple[Any, ...]]:
    with connections[conf.DATABASE].cursor() as cursor:
        cursor.execute(sql, given)
        return list(cursor.fetchall())
