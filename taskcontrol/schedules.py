"""Schedules: tasks that are made when their time comes. Made, run, skipped and switched here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from django.contrib.auth import get_user_model
from django.db.models import Model

from .adopting import call_of_plain
from .brief import brief
from .broker import ENQUEUE
from .calls import refuse_settled, text_of
from .drafts import Draft
from .errorclasses import paths_of
from .exceptions import InvalidCall, NotPermitted, ScheduleNotFound
from .firing import active_run_of, make_task, pass_over
from .models import Schedule, TaskLog
from .options import flag, label
from .schedulerows import Wish, declare, note_over
from .signature import OPTIONS
from .timekeeping import keep_time, periodic_of
from .timetables import beat_model, timetable_from, timetable_of
from .wording import moment

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

    from .people import Person

#: Who may change schedules, and choose as whom they run.
MANAGE = "taskcontrol.manage_schedule"


def create(  # noqa: PLR0913 - what a schedule can be
    method: str | Callable[..., Any] | None = None,
    *,
    cron: str | None = None,
    every: float | dt.timedelta | None = None,
    at: dt.datetime | None = None,
    zone: str | None = None,
    name: str | None = None,
    scheduled_against: str | Model | type[Model] = "",
    on_missed: Literal["skip", "once", "all"] = "once",
    enabled: bool = True,
    description: str = "",
    run_as: AbstractBaseUser | None = None,
    user: Person | None = None,
    **call: Any,
) -> Schedule:
    """Make a schedule, or bring one of this name up to date, and return its row.

    Exactly one of ``cron`` (an expression, by the clock of ``zone``, default the site's
    TIME_ZONE), ``every`` (whole seconds or a timedelta, aligned to the clock) and ``at``
    (one time). ``name``: unique, default the method. ``scheduled_against``: what it is
    for, a model or any label, which its tasks carry as ``event``. ``on_missed``: "skip",
    "once" or "all" of the runs whose time passed while nothing could run. Everything else
    is what ``enqueue`` takes: ``queue``, ``timeout``, ``max_retries``, ``arguments`` …

    Safe to call at every start: of a schedule that exists, values that a person changed
    since are kept, others take what is said here. It runs first at its next time.

    ``run_as``: the user of its tasks, default ``TASKCONTROL["SCHEDULER_USER"]``. ``user``:
    who asks; needs the permission ``manage_schedule``. None is the system, which may.

    Raises InvalidCall (a ValueError) with a sentence for a bad cron, and for everything
    that ``enqueue`` would refuse; NotPermitted without the permission.
    """
    require(user, "make schedules")
    timetable = timetable_from(cron, every, at, zone)
    call = checked_call({**call, "method": method})
    wish = Wish(
        name=label(200)("name", name or call.get("method") or _action_of(call)),
        timetable=timetable,
        call=call,
        on_missed=policy(on_missed),
        enabled=flag("enabled", enabled),
        description=str(description),
        scheduled_against=against(scheduled_against),
        run_as=saved_user(run_as),
    )
    return declare(wish)


def run(schedule: Schedule | str, *, user: Any = None) -> TaskLog:
    """Make a task of a schedule now, beside its times, and return the task's row.

    Raises InvalidCall while the task of its last run has not ended.
    """
    one = _allowed(schedule, user, "run schedules")
    with brief():
        # Whoever fires it at this moment waits, and then sees our task.
        one = Schedule.objects.select_for_update().get(pk=one.pk)
        active = active_run_of(one)
        if active is not None:
            raise InvalidCall(
                f"The schedule {one.name!r} was not run: its task {active.pk} is still "
                f"{active.status}. Cancel that task, or wait for its end."
            )
        row: TaskLog | None = make_task(one, _periodic(one))
        if row is None:
            raise InvalidCall(
                f"The schedule {one.name!r} was not run: another task holds its key."
            )
        return row


def skip_next(schedule: Schedule | str, *, user: Any = None) -> Schedule:
    """Pass over the next run of a schedule, which is recorded as skipped.

    One that would have run once more is switched off by that.
    """
    one = _allowed(schedule, user, "skip runs of schedules")
    if one.next_run_at is None:
        raise InvalidCall(f"The schedule {one.name!r} has no next run to skip.")
    following = timetable_of(_periodic(one)).after(one.next_run_at)
    with brief():
        rows = Schedule.objects.filter(pk=one.pk, next_run_at=one.next_run_at)
        if not rows.update(next_run_at=following):
            raise InvalidCall(f"The schedule {one.name!r} ran or changed at this moment.")
        who = f"{user} skipped" if user is not None else "skipped"
        pass_over(one, f"{who} the run of {moment(one.next_run_at)}")
        if following is None:
            note_over(one)
    return _switch(one, enabled=following is not None)


def enable(schedule: Schedule | str, *, user: Any = None) -> Schedule:
    """Switch a schedule on; it runs first at its next time."""
    return _switch(_allowed(schedule, user, "switch schedules"), enabled=True)


def disable(schedule: Schedule | str, *, user: Any = None) -> Schedule:
    """Switch a schedule off; what runs goes on."""
    return _switch(_allowed(schedule, user, "switch schedules"), enabled=False)


def delete(schedule: Schedule | str, *, user: Any = None) -> None:
    """Delete a schedule; its tasks stay. What code declares comes back with ``migrate``."""
    one = _allowed(schedule, user, "delete schedules")
    beat_model("PeriodicTask").objects.filter(pk=one.periodic_id).delete()
    keep_time()


def adopt(name: str, *, user: Any = None) -> Schedule:
    """Turn a periodic task that sends a Celery task into a schedule, and return its row.

    Its times, arguments, queue and switch stay; from now on each run is a task of the
    ledger. Raises InvalidCall when its task or arguments cannot be taken over.
    """
    require(user, "adopt periodic tasks")
    periodic = beat_model("PeriodicTask").objects.filter(name=name).first()
    if periodic is None:
        raise ScheduleNotFound(name)
    if periodic.task != ENQUEUE:
        timetable_of(periodic)
        call = checked_call(call_of_plain(periodic))
        periodic.task, periodic.args, periodic.kwargs = ENQUEUE, "[]", text_of(call)
        periodic.queue = None
        periodic.save()
    return find_schedule(name)


def find_schedule(schedule: Schedule | str) -> Schedule:
    """Return the row of a schedule given as row or as name, or raise ScheduleNotFound."""
    if isinstance(schedule, Schedule):
        return schedule
    keep_time()
    found: Schedule | None = Schedule.objects.filter(name=schedule).first()
    if found is None:
        raise ScheduleNotFound(schedule)
    return found


def require(user: Any, verb: str) -> None:
    """Raise NotPermitted unless ``user`` may manage schedules; None is the system."""
    if user is not None and not user.has_perm(MANAGE):
        raise NotPermitted(user, MANAGE, verb)


def checked_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the call in values that can be stored; raise what ``enqueue`` would raise."""
    refuse_settled(call)
    unsaid = {name for name in {"method", *OPTIONS} if call.get(name) is None}
    given = {name: value for name, value in call.items() if name not in unsaid}
    rest = dict(given)
    options = {name: rest.pop(name) for name in OPTIONS & rest.keys()}
    draft = Draft(rest.pop("method", None), options, rest)
    if "method" in given and not isinstance(given["method"], str):
        given["method"] = draft.method
    for name in draft.callbacks.keys() & given.keys():
        given[name] = draft.callbacks[name]
    for name in {"retry_on", "discard_on"} & given.keys():
        given[name] = paths_of(given[name])
    if draft.document is not None:
        given |= {name: said for name, said in draft.document.columns.items() if said}
    return given


def next_runs(schedule: Schedule | str, count: int = 5) -> list[dt.datetime]:
    """Return the next times at which a schedule runs, none while it is switched off."""
    one = find_schedule(schedule)
    periodic, at = _periodic(one), one.next_run_at
    found: list[dt.datetime] = []
    while at is not None and len(found) < count:
        found.append(at)
        at = timetable_of(periodic).after(at)
    return found


def policy(value: Any) -> str:
    """Return what becomes of missed runs, or raise InvalidCall."""
    if value not in Schedule.OnMissed.values:
        known = ", ".join(Schedule.OnMissed.values)
        raise InvalidCall(f"on_missed must be one of {known}, not {value!r}.")
    return str(value)


def saved_user(value: Any) -> Any:
    """Return the user as whom a schedule is to run, or raise InvalidCall."""
    known = value is None or isinstance(value, get_user_model())
    if not known or (value is not None and value.pk is None):
        raise InvalidCall(f"run_as must be a saved user or None, not {value!r}.")
    return value


def against(value: Any) -> str:
    """Return the label of what a schedule is for, given as a model or as text."""
    if isinstance(value, Model) or (isinstance(value, type) and issubclass(value, Model)):
        value = value._meta.label
    return label(140)("scheduled_against", value or "")


def _action_of(call: Mapping[str, Any]) -> str:
    return " ".join(str(call[f"document_{part}"]) for part in ("type", "name", "action"))


def _allowed(schedule: Schedule | str, user: Any, verb: str) -> Schedule:
    require(user, verb)
    return find_schedule(schedule)


def _switch(schedule: Schedule, *, enabled: bool) -> Schedule:
    periodic = _periodic(schedule)
    if periodic.enabled != enabled:
        periodic.enabled = enabled
        periodic.save()
    keep_time()
    schedule.refresh_from_db()
    return schedule


def _periodic(schedule: Schedule) -> Any:
    found = periodic_of(schedule)
    if found is None:
        raise ScheduleNotFound(schedule.name)
    return found
