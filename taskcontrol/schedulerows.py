"""Writes schedules as code says them, and keeps every value that a person changed since."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from . import dialect
from .brief import brief
from .broker import ENQUEUE
from .calls import call_of, digest_of, text_of
from .conf import conf
from .exceptions import InvalidCall, ScheduleNotFound
from .models import Schedule
from .scheduledcode import schedules_of_settings
from .timekeeping import keep_time, periodic_of
from .timetables import (
    Timetable,
    beat_is_installed,
    beat_model,
    columns_of,
    timetable_of,
)

logger = logging.getLogger("taskcontrol")

#: Seconds after which a knock of beat that no worker took is dropped: the next one comes.
KNOCK_EXPIRES = 60
#: In ``declared``: switched off because its last time was used, and by no person.
OVER = "over"
#: The columns of our row that code and persons write.
OURS = ("on_missed", "scheduled_against", "run_as", "run_as_for", "declared")


@dataclass(frozen=True)
class Wish:
    """A schedule as somebody wants it."""

    name: str
    timetable: Timetable
    call: Mapping[str, Any]
    on_missed: str = Schedule.OnMissed.ONCE
    enabled: bool = True
    description: str = ""
    scheduled_against: str = ""
    #: The user of its tasks; None is the scheduler's.
    run_as: Any = None

    def values(self) -> dict[str, Any]:
        """Return each value that a person may change, as it is stored and compared."""
        return {
            "timetable": str(self.timetable),
            "call": text_of(self.call),
            "on_missed": str(self.on_missed),
            "enabled": self.enabled,
            "description": self.description,
            "scheduled_against": self.scheduled_against,
            "run_as": _key(getattr(self.run_as, "pk", None)),
        }


def declare(wish: Wish, *, source: str = "code") -> Schedule:
    """Make the schedule, or bring what no person changed up to date; return its row.

    Found by the name under which it was declared, whatever a person calls it since.
    """
    declaration = {"name": wish.name, "source": source, **wish.values()}
    schedule = _declared_as(wish.name)
    periodic = _named(wish.name) if schedule is None else periodic_of(schedule)
    if periodic is None:
        return insert(wish, declared=declaration)
    schedule = _row_of(periodic)
    before, now = dict(schedule.declared or {}), values_of(schedule, periodic)
    over = before.pop(OVER, False)
    if before == declaration:
        return schedule
    if before.get("timetable") != declaration["timetable"]:
        refuse_past(wish.name, wish.timetable)
        if over and now:
            now["enabled"] = before["enabled"]  # no person switched it off
    elif over:
        declaration[OVER] = True
    untouched = {name for name in now if name in before and now[name] == before[name]}
    change(schedule, wish, untouched, declared=declaration)
    return schedule


def insert(wish: Wish, *, declared: dict[str, Any] | None = None) -> Schedule:
    """Make a schedule; one of the same name that another process just made is returned."""
    refuse_past(wish.name, wish.timetable)
    model = beat_model("PeriodicTask")
    periodic = model(task=ENQUEUE, expire_seconds=KNOCK_EXPIRES, **_columns(wish))
    try:
        with transaction.atomic(using=model.objects.db):
            periodic.save(force_insert=True)
    except (IntegrityError, ValidationError):
        found = _named(wish.name)
        if found is None:
            raise
        return _row_of(found)
    schedule = _row_of(periodic)
    _set_ours(schedule, wish, {"on_missed", "scheduled_against", "run_as"})
    schedule.run_as_for, schedule.declared = digest_of(periodic), declared
    schedule.save(update_fields=OURS)
    return schedule


def note_over(schedule: Schedule) -> None:
    """Note that no person switched it off, but that its last time was used."""
    row = Schedule.objects.get(pk=schedule.pk)
    if row.declared is not None:
        Schedule.objects.filter(pk=row.pk).update(declared={**row.declared, OVER: True})


def refuse_past(name: str, timetable: Timetable) -> None:
    """Raise InvalidCall for times of which none is still to come."""
    if timetable.after(dialect.now(conf.DATABASE)) is None:
        raise InvalidCall(f"The schedule {name!r} would never run: {timetable} is past.")


def change(schedule: Schedule, wish: Wish, names: Collection[str], **ours: Any) -> None:
    """Write those values of ``wish`` that are named, and what ``ours`` says of our row.

    It goes on to run as its user if that was right before.
    """
    periodic = periodic_of(schedule)
    if periodic is None:
        raise ScheduleNotFound(schedule.name)
    with brief():
        trusted = schedule.run_as_for == digest_of(periodic)
        for column, value in _columns(wish, names).items():
            setattr(periodic, column, value)
        periodic.save()
        _set_ours(schedule, wish, names)
        if trusted or "run_as" in names:
            schedule.run_as_for = digest_of(periodic)
        for name, value in ours.items():
            setattr(schedule, name, value)
        schedule.save(update_fields=OURS)
    keep_time()
    schedule.refresh_from_db()


def values_of(schedule: Schedule, periodic: Any) -> dict[str, Any]:
    """Return the values of a schedule as they are now, to be compared with a wish's."""
    with suppress(InvalidCall):
        return {
            "timetable": str(timetable_of(periodic)),
            "call": text_of(call_of(periodic)),
            "on_missed": schedule.on_missed,
            "enabled": periodic.enabled,
            "description": periodic.description,
            "scheduled_against": schedule.scheduled_against,
            "run_as": _key(schedule.run_as_id),
        }
    return {}  # a person broke it, and has to mend it


def sync_schedules(**signal: Any) -> None:
    """Write the schedules of ``TASKCONTROL["SCHEDULES"]``, and drop those it had before.

    One that cannot be written is logged and holds up no others: ``check`` names it.
    """
    if not beat_is_installed() or signal.get("using", conf.DATABASE) != conf.DATABASE:
        return
    found, wrong = schedules_of_settings()
    for why in wrong:
        logger.error("%s", why)
    for one in found:
        try:
            declare(Wish(one.name, one.timetable, one.call), source="settings")
        except (InvalidCall, ValidationError):
            logger.exception("The schedule %r could not be written.", one.name)
    if not wrong:
        _drop_all_but({one.name for one in found})


def _drop_all_but(names: Collection[str]) -> None:
    """Delete what the settings no longer name; what a person changed is switched off."""
    for schedule in Schedule.objects.filter(declared__isnull=False):
        declared = schedule.declared or {}
        periodic = periodic_of(schedule)
        if declared["source"] != "settings" or declared["name"] in names or not periodic:
            continue
        now = values_of(schedule, periodic)
        if all(declared[name] == value for name, value in now.items()) and now:
            periodic.delete()
        else:
            periodic.enabled = False
            periodic.save()
            Schedule.objects.filter(pk=schedule.pk).update(declared=None)
    keep_time()


def _declared_as(name: str) -> Schedule | None:
    rows = Schedule.objects.filter(declared__isnull=False)
    return next((row for row in rows if row.declared["name"] == name), None)


def _named(name: str) -> Any:
    found = beat_model("PeriodicTask").objects.filter(name=name).first()
    if found is not None and found.task != ENQUEUE:
        raise InvalidCall(
            f"There is a periodic task {name!r} already, for the Celery task {found.task!r}."
            " Give the schedule another name."
        )
    return found


def _row_of(periodic: Any) -> Schedule:
    keep_time()
    row: Schedule = Schedule.objects.get(periodic_id=periodic.pk)
    return row


def _columns(wish: Wish, names: Collection[str] | None = None) -> dict[str, Any]:
    """Return the columns of the row of django-celery-beat that say these values."""
    columns: dict[str, Any] = {}
    if names is None or "timetable" in names:
        columns |= columns_of(wish.timetable)
    if names is None or "call" in names:
        columns |= {"args": "[]", "kwargs": text_of(wish.call), "queue": None}
    for name in ("name", "enabled", "description"):
        if names is None or name in names:
            columns[name] = getattr(wish, name)
    return columns


def _set_ours(schedule: Schedule, wish: Wish, names: Collection[str]) -> None:
    for name in ("on_missed", "scheduled_against"):
        if name in names:
            setattr(schedule, name, getattr(wish, name))
    if "run_as" in names:
        schedule.run_as_id = getattr(wish.run_as, "pk", None)


def _key(pk: Any) -> str | None:
    return None if pk is None else str(pk)
