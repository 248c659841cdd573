"""Examines the schedules: which cannot run, which are late, which skip run after run."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import F

from .. import timekeeping
from ..conf import conf
from ..dialect import DatabaseNow
from ..models import Schedule, TaskLog, seconds
from ..scheduledcode import schedules_of_settings
from ..wording import counted, duration, listed, moment
from .findings import Finding, Level

#: Seconds for which a run may hold up the next ones before it is worth a word.
HELD_UP_LONG = 3600.0


def examine_schedules() -> Iterator[Finding]:
    """Yield what is found of the schedules; nothing where there are none."""
    faults = [*_unwritten(), *_broken(), *_late(), *_held_up()]
    yield from faults
    rows = Schedule.objects.filter(enabled=True)
    following = rows.filter(next_run_at__isnull=False).order_by("next_run_at").first()
    if following is not None and following.next_run_at is not None and not faults:
        at = moment(following.next_run_at)
        text = f"{counted(rows.count(), 'schedule')} on; {following.name} is next, at {at}"
        yield Finding(Level.OK, "Schedules", text)


def _unwritten() -> Iterator[Finding]:
    declared = Schedule.objects.filter(declared__isnull=False).values_list(
        "declared", flat=True
    )
    written = {one["name"] for one in declared if one}
    names = [one.name for one in schedules_of_settings()[0] if one.name not in written]
    if names:
        yield Finding(
            Level.WARN,
            "Schedules",
            f'{counted(len(names), "schedule")} of TASKCONTROL["SCHEDULES"] not in the '
            f"database yet: {listed(names)}",
            "Write them: manage.py migrate",
        )


def _broken() -> Iterator[Finding]:
    for one in Schedule.objects.filter(enabled=True).exclude(error=""):
        yield Finding(
            Level.WARN,
            f"Schedule {one.name}",
            f"cannot run: {one.error}",
            "Correct it in admin, under Schedules.",
        )


def _late() -> Iterator[Finding]:
    late = DatabaseNow() - seconds(conf.SCHEDULE_GRACE)
    names = list(
        timekeeping.due().filter(next_run_at__lt=late).values_list("name", flat=True)
    )
    if names:
        yield Finding(
            Level.FAIL,
            "Schedules",
            f"{counted(len(names), 'schedule')} due for over "
            f"{duration(conf.SCHEDULE_GRACE)} and not fired: {listed(names)}",
            "A worker with a free slot fires them: start one, or look into its log.",
        )


def _held_up() -> Iterator[Finding]:
    """A run that does not end makes its schedule skip all others."""
    rows = Schedule.objects.filter(
        enabled=True,
        skipped_at__gt=F("last_run_at"),
        last_run_at__lt=DatabaseNow() - seconds(HELD_UP_LONG),
        last_task__in=TaskLog.objects.filter(timekeeping.active()),
    )
    for one in rows:
        yield Finding(
            Level.WARN,
            f"Schedule {one.name}",
            f"skipped {one.skipped_why}",
            f"See what it does: manage.py taskcontrol explain {one.last_task_id}",
        )
