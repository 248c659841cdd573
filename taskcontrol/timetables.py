"""When a row of django-celery-beat is due: its cron, interval or single time, read and written."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Protocol

from django.apps import apps
from django.conf import settings
from django.utils import timezone

from .broker import ENQUEUE
from .cron import known_zone, last_until, next_after, written_out
from .exceptions import InvalidCall
from .options import moment as valid_moment
from .wording import moment as shown

APP = "django_celery_beat"
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: The columns of a PeriodicTask that say when, of which one is set.
KINDS = ("crontab", "interval", "clocked", "solar")


class Timetable(Protocol):
    """The times of a schedule; its text says them, and another text means other times."""

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        """Return the first time after ``moment``, or None when there is no more."""

    def until(self, moment: dt.datetime) -> dt.datetime | None:
        """Return the last time that is not after ``moment``."""


@dataclass(frozen=True)
class Cron:
    """The times of a cron expression in a time zone."""

    plain: str
    zone: str

    def __str__(self) -> str:
        return f"{self.plain} ({self.zone})"

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        return next_after(self.plain, self.zone, moment)

    def until(self, moment: dt.datetime) -> dt.datetime | None:
        return last_until(self.plain, self.zone, moment)


@dataclass(frozen=True)
class Every:
    """Every so many seconds, aligned to the clock: every 240 s is at :00, :04 and so on."""

    seconds: int

    def __str__(self) -> str:
        return f"every {self.seconds} s"

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        return self._at(self._periods(moment) + 1)

    def until(self, moment: dt.datetime) -> dt.datetime | None:
        return self._at(self._periods(moment))

    def _periods(self, moment: dt.datetime) -> int:
        return (moment - EPOCH) // dt.timedelta(seconds=self.seconds)

    def _at(self, periods: int) -> dt.datetime:
        return EPOCH + dt.timedelta(seconds=periods * self.seconds)


@dataclass(frozen=True)
class Once:
    """One time."""

    at: dt.datetime

    def __str__(self) -> str:
        return f"once at {shown(self.at)}"

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        return self.at if self.at > moment else None

    def until(self, moment: dt.datetime) -> dt.datetime | None:
        return self.at if self.at <= moment else None


@dataclass(frozen=True)
class Within:
    """The times of another timetable from a beginning to an end."""

    inner: Timetable
    begin: dt.datetime | None
    end: dt.datetime | None

    def __str__(self) -> str:
        begin = f", from {shown(self.begin)}" if self.begin else ""
        end = f", until {shown(self.end)}" if self.end else ""
        return f"{self.inner}{begin}{end}"

    def after(self, moment: dt.datetime) -> dt.datetime | None:
        if self.begin and moment < self.begin:
            moment = self.begin - dt.timedelta(microseconds=1)
        found = self.inner.after(moment)
        return None if found and self.end and found > self.end else found

    def until(self, moment: dt.datetime) -> dt.datetime | None:
        found = self.inner.until(min(moment, self.end) if self.end else moment)
        return None if found and self.begin and found < self.begin else found


def beat_is_installed() -> bool:
    """Return whether the tables of django-celery-beat are there."""
    return apps.is_installed(APP)


def beat_model(name: str) -> Any:
    """Return a model of django-celery-beat."""
    if not beat_is_installed():
        raise InvalidCall(
            'Schedules need django-celery-beat: pip install "taskcontrol[beat]", and add '
            '"django_celery_beat" to INSTALLED_APPS.'
        )
    return apps.get_model(APP, name)


def our_periodic_tasks() -> Any:
    """Return the periodic tasks that are schedules of ours, with their times."""
    rows = beat_model("PeriodicTask").objects.filter(task=ENQUEUE)
    return rows.select_related(*KINDS)


def timetable_of(periodic: Any) -> Timetable:
    """Return when a periodic task is due; raise InvalidCall when that cannot be read."""
    inner = _inner_of(periodic)
    if periodic.start_time or periodic.expires:
        return Within(inner, periodic.start_time, periodic.expires)
    return inner


def _inner_of(periodic: Any) -> Timetable:
    if periodic.crontab is not None:
        one = periodic.crontab
        fields = (one.minute, one.hour, one.day_of_month, one.month_of_year)
        plain = " ".join(
            "".join(str(field).split()) for field in (*fields, one.day_of_week)
        )
        return Cron(written_out(plain), known_zone(str(one.timezone)))
    if periodic.interval is not None:
        one = periodic.interval
        return Every(valid_interval(dt.timedelta(**{one.period: one.every})))
    if periodic.clocked is not None:
        return Once(periodic.clocked.clocked_time)
    raise InvalidCall("A schedule needs a crontab, an interval or a clocked time.")


def valid_interval(value: Any) -> int:
    """Return whole seconds from one to ten years."""
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise InvalidCall(f"every must be seconds or a timedelta, not {value!r}.")
    if not 1 <= seconds <= 10 * 365 * 86400 or seconds != int(seconds):
        raise InvalidCall(
            f"every must be whole seconds, from 1 to ten years, not {value!r}."
        )
    return int(seconds)


def timetable_from(
    cron: str | None, every: float | dt.timedelta | None, at: Any, zone: str | None
) -> Timetable:
    """Return the timetable that a call asks for with exactly one of the three."""
    if sum(value is not None for value in (cron, every, at)) != 1:
        raise InvalidCall(
            "A schedule needs exactly one of cron= (an expression), every= (seconds or a "
            "timedelta) and at= (a datetime)."
        )
    if cron is not None:
        return Cron(written_out(cron), known_zone(zone or settings.TIME_ZONE))
    if zone is not None:
        raise InvalidCall("zone= belongs to cron=; the others count in absolute time.")
    if every is not None:
        return Every(valid_interval(every))
    if not isinstance(at, dt.datetime) or timezone.is_naive(at):
        raise InvalidCall(f"at must be a datetime with a time zone, not {at!r}.")
    return Once(valid_moment("at", at))


def columns_of(timetable: Timetable) -> dict[str, Any]:
    """Return the columns of a PeriodicTask that say a timetable, its row made if needed."""
    columns: dict[str, Any] = dict.fromkeys(KINDS)
    match timetable:
        case Cron(plain, zone):
            columns["crontab"] = _row("CrontabSchedule", **_fields(plain), timezone=zone)
        case Every(seconds):
            columns["interval"] = _row("IntervalSchedule", every=seconds, period="seconds")
        case Once(at):
            columns["clocked"] = _row("ClockedSchedule", clocked_time=at)
    return {**columns, "one_off": isinstance(timetable, Once)}


def _fields(plain: str) -> dict[str, str]:
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return dict(zip(names, plain.split(), strict=True))


def _row(model: str, **columns: Any) -> Any:
    """Return the row that says so; others may share it, so it is never changed."""
    rows = beat_model(model).objects
    return rows.filter(**columns).first() or rows.create(**columns)
