"""What the page of a schedule tells beside its form: state, next runs by its clock, last runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.http import HttpRequest
from django.urls import NoReverseMatch
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext

from .. import permissions, schedules
from ..conf import conf
from ..exceptions import InvalidCall, TaskControlError
from ..models import Schedule, TaskLog
from ..timekeeping import periodic_of
from ..timetables import Cron, Within, timetable_of
from ..wording import duration
from .addresses import admin_url
from .cronwords import in_words
from .presentation import ago, badge, link, person, related, status_badge, visible
from .runstrips import runs_of, strip


def schedule_context(one: Any, request: HttpRequest) -> dict[str, Any]:
    """Return what the page shows of a schedule beside its form."""
    last = TaskLog.objects.filter(pk=one.last_task_id).first()
    runs = runs_of(one.name)
    return {
        "state": state_of(one, last),
        "schedule": one,
        "next_runs": list(_next_runs(one)),
        "strip": strip(runs, linked=request.user.has_perm(permissions.VIEW))
        if runs
        else "",
        "skips": [visible(why) for why in one.skips],
        "beat_url": _beat_url(one, request),
        "facts": [
            (_("when"), visible(in_words(one.timetable))),
            (_("as cron says it"), visible(one.timetable)),
            (_("last run"), last_run_of(one, last)),
            (_("runs"), runs_link(one)),
            (_("skipped"), f"{one.skipped_count:,}"),
            (_("runs as"), _run_as(one)),
        ],
    }


def state_of(one: Any, last: TaskLog | None) -> SafeString:
    """Return whether a schedule, whose last task is given, runs and is in time; why not."""
    if one.error:
        why = format_html('<span class="tc-why">{}</span>', visible(one.error))
        return format_html("{}{}", badge(_("cannot run"), "failed"), why)
    if not one.enabled:
        return badge(_("off"), "canceled")
    late = seconds_late(one)
    if not late:
        return badge(_("on"), "live")
    told = _("due for %(time)s") % {"time": duration(late)}
    if one.on_missed == Schedule.OnMissed.ALL and _goes_on(last):
        # What it must not lose comes one after the other.
        told += _(", after its last run")
        return format_html(
            '{}<span class="tc-quiet">{}</span>', badge(_("waits"), "pending"), told
        )
    why = format_html('<span class="tc-why">{}</span>', told)
    return format_html("{}{}", badge(_("late"), "failed"), why)


def _goes_on(task: TaskLog | None) -> bool:
    return task is not None and (not task.ended or task.occupies)


def seconds_late(one: Any) -> float:
    """Return for how long a run has been due and was not made; 0 within the grace time."""
    if not one.enabled or one.next_run_at is None:
        return 0.0
    passed = float((one.read_at - one.next_run_at).total_seconds())
    return passed if passed > conf.SCHEDULE_GRACE else 0.0


def last_run_of(one: Any, task: TaskLog | None) -> SafeString | str:
    """Return the last task with its status, linked."""
    when = ago(one.last_run_at, one.read_at)
    if task is None:
        return when
    url = admin_url("taskcontrol_tasklog_change", task.pk)
    shown = status_badge(task.status, occupies=task.occupies)
    return format_html('{} <a href="{}">{}</a>', shown, url, when)


def runs_link(one: Schedule) -> SafeString:
    """Return how many tasks it made, linked to them."""
    told = ngettext("%(number)s task", "%(number)s tasks", one.run_count)
    text = told % {"number": f"{one.run_count:,}"}
    return link(admin_url("taskcontrol_tasklog_changelist", schedule=one.name), text)


def _next_runs(one: Any) -> Iterator[tuple[SafeString, Any]]:
    """Yield the next times by the clock of the schedule, each with how far it lies ahead."""
    try:
        times, zone = schedules.next_runs(one), _zone_of(one)
    except TaskControlError:
        return
    for at in times:
        yield _by_its_clock(at, zone), ago(at, one.read_at)


def _zone_of(one: Schedule) -> Any:
    try:
        timetable: Any = timetable_of(periodic_of(one))
    except InvalidCall:
        return timezone.get_current_timezone()
    inner = timetable.inner if isinstance(timetable, Within) else timetable
    return (
        ZoneInfo(inner.zone) if isinstance(inner, Cron) else timezone.get_current_timezone()
    )


def _by_its_clock(at: datetime, zone: Any) -> SafeString:
    local = at.astimezone(zone)
    text = local.strftime("%a %Y-%m-%d %H:%M:%S %Z").replace(":00 ", " ", 1)
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), text)


def _run_as(one: Any) -> str:
    if one.run_as_id is None:
        return _("the scheduler")
    return person(related(one, "run_as"), one.run_as_id)


def _beat_url(one: Any, request: HttpRequest) -> str:
    """Return the page of the beat's row, for those who may see it there."""
    if not request.user.has_perm("django_celery_beat.view_periodictask"):
        return ""
    try:
        return admin_url("django_celery_beat_periodictask_change", one.periodic_id)
    except NoReverseMatch:
        return ""
