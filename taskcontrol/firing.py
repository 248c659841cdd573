"""Fires the schedules whose time has come: each time once, however many look."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError
from django.db.models import F

from . import crashpoints, dialect
from .brief import brief
from .calls import call_of, digest_of
from .conf import conf
from .context import on_behalf_of
from .dialect import DatabaseNow, free_keys
from .enqueueing import enqueue
from .exceptions import InvalidCall, KeyBusy
from .models import Schedule, TaskLog, next_rev
from .registry import parameters_of
from .schedulerows import note_over
from .systemuser import scheduler_user
from .targets import target_of_call
from .text import clipped
from .timekeeping import due, keep_time, periodic_of
from .timetables import Timetable, beat_is_installed, beat_model, timetable_of
from .wording import counted, moment

logger = logging.getLogger("taskcontrol")

#: Missed runs that are counted one by one.
MOST_COUNTED = 1000
#: Skipped runs that are told one by one.
SKIPS_KEPT = 20


class Turn(NamedTuple):
    """What a schedule is due for."""

    #: The time that it was to run at, and the first one that is still to come.
    at: datetime
    following: datetime | None
    #: Earlier times that passed while nothing ran.
    missed: int
    #: Whether ``at`` itself is longer ago than a run may be late.
    late: bool


def fire_due_schedules() -> int:
    """Make the tasks of the schedules whose time has come; return how many were made.

    Safe to run anywhere, any number at once: who moves the time of the next run, under
    its old value and in the transaction of the new task, has fired. Imports the code of
    the methods, so a worker calls it in a child. One that fails holds up no others.
    """
    if not beat_is_installed():
        return 0
    keep_time()
    return sum(_fire_safely(one) for one in due()[: conf.SWEEP_PAGE])


def _fire_safely(schedule: Schedule) -> int:
    try:
        return fire(schedule)
    except Exception:
        logger.exception("The schedule %r could not be fired; it is tried again.", schedule)
        return 0


def fire(schedule: Schedule) -> int:
    """Make the task that ``schedule`` is due for, or note why not; return how many."""
    periodic = periodic_of(schedule)
    if periodic is None or schedule.next_run_at is None:
        return 0
    turn = turn_of(schedule, timetable_of(periodic), dialect.now(conf.DATABASE))
    if _waits_for_its_last_run(schedule, turn):
        return 0
    crashpoints.reached("schedule.due")
    try:
        with brief():
            if not _take(schedule, turn):
                return 0
            crashpoints.reached("schedule.taken")
            made = _run_or_skip(schedule, periodic, turn)
            crashpoints.reached("schedule.made")
    except (InterfaceError, KeyBusy, OperationalError):
        raise  # it passes, and the time has not been taken
    except Exception as error:  # noqa: BLE001 - whatever the project's code raises
        made = False
        _give_up(schedule, turn, error)
    crashpoints.reached("schedule.fired")
    if periodic.one_off:
        note_over(schedule)
        _switch_off(periodic)
    return int(made)


def turn_of(schedule: Schedule, timetable: Timetable, now: datetime) -> Turn:
    """Return which of the times that have passed counts, and how many are missed."""
    at = schedule.next_run_at or now
    following, missed = timetable.after(at), 0
    if schedule.on_missed != Schedule.OnMissed.ALL:
        while following is not None and following <= now and missed < MOST_COUNTED:
            at, following, missed = following, timetable.after(following), missed + 1
        if missed == MOST_COUNTED:
            at, following = timetable.until(now) or at, timetable.after(now)
    late = (now - at).total_seconds() > conf.SCHEDULE_GRACE
    return Turn(at, following, missed, late)


def active_run_of(schedule: Schedule) -> TaskLog | None:
    """Return the last task of a schedule, if it has not ended or its body is not gone."""
    if schedule.last_task_id is None:
        return None
    row: TaskLog | None = TaskLog.objects.filter(pk=schedule.last_task_id).first()
    return None if row is None or (row.ended and not row.occupies) else row


def make_task(schedule: Schedule, periodic: Any, *, at: datetime | None = None) -> Any:
    """Store the task of a run in the present transaction, and note it as the last.

    ``at``: the time that the run is for, which stands in the task's ``run_at``. None when
    another task holds the key that keeps two runs of a schedule apart.
    """
    user = user_of(schedule, periodic)
    with on_behalf_of(user):
        row = enqueue(**_with_key(call_of(periodic), schedule, user))
    if row is None:
        return None
    # Not given as options: a method may have parameters of these names.
    values = {
        "schedule": schedule.name,
        "event": row.event or schedule.scheduled_against,
        "run_at": at,
    }
    TaskLog.objects.filter(pk=row.pk).update(**values, rev=next_rev())
    Schedule.objects.filter(pk=schedule.pk).update(
        last_task=row.pk, last_run_at=DatabaseNow(), run_count=F("run_count") + 1, error=""
    )
    row.refresh_from_db()
    return row


def _with_key(call: dict[str, Any], schedule: Schedule, user: Any) -> dict[str, Any]:
    """Return the call with a key of its own, which a second run cannot have too."""
    key = {"job_id": f"schedule-{schedule.pk}", "deduplicate": True}
    takes = parameters_of(target_of_call(call.get("method"), call, user).function)
    return call if key.keys() & (takes | call.keys()) else {**call, **key}


def user_of(schedule: Schedule, periodic: Any) -> Any:
    """Return the user as whom a schedule runs.

    Who may edit the row of the beat may not thereby run code as somebody else: another
    user than the scheduler's holds only for what it was chosen for.
    """
    if schedule.run_as_id is None:
        user = scheduler_user()
    elif schedule.run_as_for != digest_of(periodic):
        raise InvalidCall(
            "What it does was changed since it was allowed to run as another user. "
            "Somebody with the permission manage_schedule has to choose the user again."
        )
    else:
        user = get_user_model()._default_manager.filter(pk=schedule.run_as_id).first()
    if user is None or not user.is_active:
        raise InvalidCall("The user as whom it runs was deleted or is no longer active.")
    return user


def _waits_for_its_last_run(schedule: Schedule, turn: Turn) -> bool:
    """A run that was missed and is not to be lost waits for the one before it."""
    every = schedule.on_missed == Schedule.OnMissed.ALL
    return every and turn.late and active_run_of(schedule) is not None


def pass_over(schedule: Schedule, why: str, *, count: int = 1) -> None:
    """Record that ``count`` runs were skipped, for this reason; the row is locked by then."""
    schedule.skips = [clipped(why, 500), *schedule.skips][:SKIPS_KEPT]
    Schedule.objects.filter(pk=schedule.pk).update(
        skipped_count=F("skipped_count") + count,
        skipped_at=DatabaseNow(),
        skips=schedule.skips,
    )
    logger.info("Schedule %r skipped %s: %s", schedule.name, counted(count, "run"), why)


def _take(schedule: Schedule, turn: Turn) -> bool:
    """Move the next run on, if nobody did or is about to; who does has the turn.

    Whoever sleeps over it loses it after a while, and nobody waits for him.
    """
    same = {"next_run_at": schedule.next_run_at, "timetable": schedule.timetable}
    rows = Schedule.objects.filter(pk=schedule.pk, **same)
    if not free_keys(rows):
        return False
    return bool(rows.update(next_run_at=turn.following))


def _run_or_skip(schedule: Schedule, periodic: Any, turn: Turn) -> bool:
    if turn.missed:
        why = f"{counted(turn.missed, 'run')} up to {moment(turn.at)} missed: nothing ran then"
        pass_over(schedule, why, count=turn.missed)
    if turn.late and schedule.on_missed == Schedule.OnMissed.SKIP:
        pass_over(schedule, f"missed the run of {moment(turn.at)}: nothing ran then")
        return False
    before = active_run_of(schedule)
    if before is not None:
        why = f"the run of {moment(turn.at)}: task {before.pk} of the last one is still "
        pass_over(schedule, f"{why}{before.status}")
        return False
    if make_task(schedule, periodic, at=turn.at) is None:
        pass_over(schedule, f"the run of {moment(turn.at)}: another task holds its key")
        return False
    return True


def _give_up(schedule: Schedule, turn: Turn, error: Exception) -> None:
    """Move on past a time at which no task can be made, and say why."""
    why = clipped(str(error) or type(error).__name__, 500)
    with brief():
        if _take(schedule, turn):
            Schedule.objects.filter(pk=schedule.pk).update(error=why)
            pass_over(schedule, f"the run of {moment(turn.at)}: {why}")


def _switch_off(periodic: Any) -> None:
    """Switch off what runs once, as beat does."""
    rows = beat_model("PeriodicTask").objects.filter(pk=periodic.pk)
    rows.update(enabled=False)
    beat_model("PeriodicTasks").update_changed()
