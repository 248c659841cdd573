"""Keeps the time of each schedule's next run in step with its row, and tells what is due."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.signals import post_delete, post_save

from . import dialect
from .calls import call_of
from .conf import conf
from .dialect import DatabaseNow
from .exceptions import InvalidCall
from .models import Schedule, TaskLog
from .prepared import PreparedQuery
from .status import TERMINAL
from .text import clipped
from .timetables import (
    Timetable,
    beat_is_installed,
    beat_model,
    our_periodic_tasks,
    timetable_of,
)

logger = logging.getLogger("taskcontrol")

#: When django-celery-beat last said that a row changed, as this process saw it.
_seen: datetime | None = None


def keep_time() -> None:
    """Read every schedule's row, and set the next run of those whose times changed.

    A new or changed schedule waits for its next time; it never runs at once. Rows that
    cannot be read get the reason and run no more; they hold up no others.
    """
    if not beat_is_installed():
        return
    rows = {one.pk: one for one in our_periodic_tasks()}
    known = {one.periodic_id: one for one in Schedule.objects.all()}
    gone = known.keys() - rows.keys()
    if gone:
        Schedule.objects.filter(periodic_id__in=gone).delete()
    new = [Schedule(periodic_id=key, enabled=False) for key in rows.keys() - known.keys()]
    if new:
        Schedule.objects.bulk_create(new, ignore_conflicts=True)
        known = {one.periodic_id: one for one in Schedule.objects.all()}
    now = dialect.now(conf.DATABASE)
    for key, periodic in rows.items():
        if key in known:
            _keep(known[key], periodic, now)


def anything_due() -> bool:
    """Return whether a schedule is due, or a row changed since this process last asked.

    Asks the database alone: a worker's main process may call it.
    """
    if not beat_is_installed():
        return False
    return _anything_changed() or bool(_DUE.rows(conf.DATABASE, conf.SCHEDULE_GRACE))


def due() -> Any:
    """Return the schedules whose time has come, the longest due first.

    One that runs every missed time waits for its previous run to end.
    """
    late = DatabaseNow() - timedelta(seconds=conf.SCHEDULE_GRACE)
    busy = Schedule.objects.filter(
        on_missed=Schedule.OnMissed.ALL,
        next_run_at__lt=late,
        last_task__in=TaskLog.objects.filter(active()),
    )
    waiting = Schedule.objects.filter(next_run_at__lte=DatabaseNow())
    return waiting.exclude(pk__in=busy.values("pk")).order_by("next_run_at")


_DUE = PreparedQuery(lambda: due().values_list("pk")[:1])


def active() -> Q:
    """Return the condition of tasks that hold up the next run of their schedule."""
    return ~Q(status__in=sorted(TERMINAL)) | Q(retry_at__isnull=False) | Q(occupies=True)


def periodic_of(schedule: Schedule) -> Any:
    """Return the row of django-celery-beat of a schedule; None when it was deleted."""
    return our_periodic_tasks().filter(pk=schedule.periodic_id).first()


def follow_the_beat() -> None:
    """Keep time after each change to a row of django-celery-beat that Django sees."""
    if not beat_is_installed():
        return
    for name in ("PeriodicTask", "CrontabSchedule", "IntervalSchedule", "ClockedSchedule"):
        for signal in (post_save, post_delete):
            signal.connect(
                _note_change, beat_model(name), dispatch_uid=f"taskcontrol {name}"
            )


def _note_change(instance: Any, using: str, **signal: Any) -> None:
    if signal.get("raw") or getattr(instance, "no_changes", False):
        return  # beat notes its own runs there
    transaction.on_commit(keep_time, using=using, robust=True)


def _anything_changed() -> bool:
    global _seen
    before, _seen = _seen, beat_model("PeriodicTasks").last_change()
    return _seen != before


def _keep(schedule: Schedule, periodic: Any, now: datetime) -> None:
    values = _values(schedule, periodic, now)
    changed = {
        name: value for name, value in values.items() if getattr(schedule, name) != value
    }
    if changed:
        # Only if nobody fired or changed it meanwhile: the next look would see it.
        same = {"timetable": schedule.timetable, "next_run_at": schedule.next_run_at}
        Schedule.objects.filter(pk=schedule.pk, **same).update(**changed)


def _values(schedule: Schedule, periodic: Any, now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {"name": periodic.name, "enabled": periodic.enabled}
    try:
        timetable = timetable_of(periodic)
        call = call_of(periodic)
    except InvalidCall as error:
        # Of another text than any timetable, so that a corrected row counts as changed.
        why = clipped(str(error), 500)
        return {**values, "timetable": "", "next_run_at": None, "error": why}
    values |= {"timetable": str(timetable), "method": clipped(_what(call), 255)}
    if schedule.timetable != values["timetable"]:
        values["error"] = ""
    return values | _next(schedule, periodic, timetable, now)


def _what(call: Mapping[str, Any]) -> str:
    """Return the method of a call, or the action of its document."""
    method = call.get("method")
    return str(method or f"{call.get('document_type')}.{call.get('document_action')}")


def _next(
    schedule: Schedule, periodic: Any, timetable: Timetable, now: datetime
) -> dict[str, Any]:
    """Return the new time of the next run, if there is a new one."""
    if not periodic.enabled:
        # Beat itself switches off what runs once, at the time of that run.
        passed = schedule.next_run_at is not None and schedule.next_run_at <= now
        return {} if periodic.one_off and passed else {"next_run_at": None}
    same = schedule.timetable == str(timetable) and schedule.enabled
    if same and schedule.next_run_at is not None:
        return {}
    return {"next_run_at": timetable.after(now)}
