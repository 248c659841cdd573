"""The screen of the schedules: when each runs, what it skipped, and the buttons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, URLPattern, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from .. import schedules
from ..audit import perform
from ..dialect import DatabaseNow
from ..exceptions import InvalidCall, TaskControlError
from ..models import TaskLog
from ..schedulerows import change as change_row, insert
from ..timekeeping import keep_time
from ..timetables import beat_is_installed
from ..wording import moment
from .base import Screen
from .presentation import EMPTY, ago, badge, link, person, related, status_badge, visible
from .scheduleform import ScheduleForm

VIEW = "taskcontrol.view_schedule"


def _run(one: Any, user: Any) -> str:
    return _("Made task %(task)s.") % {"task": schedules.run(one, user=user).pk}


def _skip(one: Any, user: Any) -> str:
    at = schedules.skip_next(one, user=user).next_run_at
    return _("Skipped; the next run is at %(time)s.") % {"time": moment(at) if at else "-"}


def _enable(one: Any, user: Any) -> str | None:
    return None if one.enabled else _switched(schedules.enable(one, user=user))


def _disable(one: Any, user: Any) -> str | None:
    return _switched(schedules.disable(one, user=user)) if one.enabled else None


def _switched(one: Any) -> str:
    return _("Enabled.") if one.enabled else _("Disabled; what runs goes on.")


#: What the buttons do; None is returned when nothing changed.
ACTS: dict[str, Callable[[Any, Any], str | None]] = {
    "run": _run,
    "skip": _skip,
    "enable": _enable,
    "disable": _disable,
}


class ScheduleAdmin(Screen):
    """Schedules; whoever manages them may do everything here."""

    form = ScheduleForm
    raw_id_fields = ("run_as",)
    list_display = ("label", "state", "next_run", "last_run", "runs", "skipped")
    list_filter = ("enabled", "on_missed")
    search_fields = ("name", "method", "scheduled_against")
    search_help_text = gettext_lazy(
        "A part of the name, of the method, or of what it is for"
    )
    sortable_by = ()
    actions = ("run_selected", "skip_selected", "enable_selected", "disable_selected")
    fieldsets = (
        (None, {"fields": ("name", "description", "scheduled_against")}),
        (
            gettext_lazy("What it does"),
            {"fields": ("method", "arguments", "queue", "more", "run_as")},
        ),
        (
            gettext_lazy("When: one of the three"),
            {"fields": (("cron", "zone"), "every", "at", "on_missed")},
        ),
    )

    # Who may do what

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether there is anything to see."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see the schedules."""
        may = request.user.has_perm(VIEW) or request.user.has_perm(schedules.MANAGE)
        return beat_is_installed() and may

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may make schedules."""
        return self.has_change_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may change schedules."""
        return beat_is_installed() and request.user.has_perm(schedules.MANAGE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may delete schedules."""
        return self.has_change_permission(request)

    # What is read and written

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the schedules as the beat's rows say them, each with the time of reading."""
        return super().get_queryset(request).annotate(read_at=DatabaseNow())

    def changelist_view(
        self, request: HttpRequest, extra_context: Any = None
    ) -> HttpResponse:
        """List what the beat's rows say now."""
        keep_time()
        return super().changelist_view(request, extra_context)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Write the beat's row and ours."""
        schedules.require(request.user, "change schedules")
        if change:
            change_row(obj, form.wish, form.changed_values)
        else:
            obj.pk = insert(form.wish).pk
            obj.refresh_from_db()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the beat's row too."""
        schedules.delete(obj, user=request.user)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the beat's rows too."""
        for one in queryset:
            self.delete_model(request, one)

    # The buttons and actions

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        buttons = [self.button(verb, partial(self._act, act)) for verb, act in ACTS.items()]
        return [*buttons, *super().get_urls()]

    @staticmethod
    def _act(act: Callable[[Any, Any], str | None], request: HttpRequest, one: Any) -> Any:
        schedules.require(request.user, "run, skip and switch schedules")
        return perform(request.user, one, lambda: act(one, request.user))

    def _act_on_each(self, verb: str, request: HttpRequest, queryset: Any) -> None:
        done = 0
        for one in queryset:
            try:
                done += bool(self._act(ACTS[verb], request, one))
            except InvalidCall as error:
                self.message_user(request, visible(error), messages.WARNING)
        told = _("Done for %(done)s of the selected.") % {"done": done}
        self.message_user(request, told)

    @admin.action(permissions=["change"], description=gettext_lazy("Run now"))
    def run_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Make a task of each."""
        self._act_on_each("run", request, queryset)

    @admin.action(permissions=["change"], description=gettext_lazy("Skip the next run"))
    def skip_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Pass over the next run of each."""
        self._act_on_each("skip", request, queryset)

    @admin.action(permissions=["change"], description=gettext_lazy("Enable"))
    def enable_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Switch them on."""
        self._act_on_each("enable", request, queryset)

    @admin.action(permissions=["change"], description=gettext_lazy("Disable"))
    def disable_selected(self, request: HttpRequest, queryset: Any) -> None:
        """Switch them off."""
        self._act_on_each("disable", request, queryset)

    # The columns and the page

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one schedule with its times, its buttons and what it skipped."""
        return {
            **super().page_of(row, request),
            "state": self.state(row),
            "error": visible(row.error),
            "schedule": row,
            "may_act": self.has_change_permission(request, row),
            "next_runs": [moment(at) for at in _next_runs(row)],
            "skips": [visible(why) for why in row.skips],
            "beat_url": _beat_url(row, request),
            "facts": [
                (_("when"), visible(row.timetable)),
                (_("last run"), self.last_run(row)),
                (_("tasks"), self.runs(row)),
                (_("skipped"), f"{row.skipped_count:,}"),
                (_("runs as"), _run_as(row)),
            ],
        }

    @admin.display(description=gettext_lazy("schedule"))
    def label(self, one: Any) -> SafeString | str:
        """Show the name, and what it does where the name does not say that."""
        if one.name.startswith(one.method):
            return visible(one.name)
        return format_html(
            '{}<span class="tc-quiet">{}</span>', visible(one.name), visible(one.method)
        )

    @admin.display(description=gettext_lazy("state"))
    def state(self, one: Any) -> SafeString:
        """Show whether it runs, and why not."""
        if one.error:
            why = format_html('<span class="tc-why">{}</span>', visible(one.error))
            return format_html("{}{}", badge(_("cannot run"), "failed"), why)
        return badge(_("on"), "live") if one.enabled else badge(_("off"), "canceled")

    @admin.display(description=gettext_lazy("next run"))
    def next_run(self, one: Any) -> SafeString:
        """Show when it runs next, and its times."""
        at = ago(one.next_run_at, one.read_at)
        return format_html('{}<span class="tc-quiet">{}</span>', at, visible(one.timetable))

    @admin.display(description=gettext_lazy("last run"))
    def last_run(self, one: Any) -> SafeString | str:
        """Link to the last task with its status."""
        task = TaskLog.objects.filter(pk=one.last_task_id).first()
        when = ago(one.last_run_at, one.read_at)
        if task is None:
            return when
        url = reverse("admin:taskcontrol_tasklog_change", args=[task.pk])
        shown = status_badge(task.status, occupies=task.occupies)
        return format_html('{} <a href="{}">{}</a>', shown, url, when)

    @admin.display(description=gettext_lazy("tasks"))
    def runs(self, one: Any) -> SafeString:
        """Link to the tasks that it made."""
        url = reverse("admin:taskcontrol_tasklog_changelist")
        return link(f"{url}?{urlencode({'schedule': one.name})}", f"{one.run_count:,}")

    @admin.display(description=gettext_lazy("skipped"))
    def skipped(self, one: Any) -> SafeString | str:
        """Show how many runs were skipped, and why the last one was."""
        if not one.skipped_count:
            return EMPTY
        return format_html(
            '{} <span class="tc-quiet">{}</span>',
            f"{one.skipped_count:,}",
            visible(one.skipped_why),
        )


def _next_runs(one: Any) -> list[Any]:
    try:
        return schedules.next_runs(one)
    except TaskControlError:
        return []


def _run_as(one: Any) -> str:
    if one.run_as_id is None:
        return _("the scheduler")
    return person(related(one, "run_as"), one.run_as_id)


def _beat_url(one: Any, request: HttpRequest) -> str:
    """Return the page of the beat's row, for those who may see it there."""
    if not request.user.has_perm("django_celery_beat.view_periodictask"):
        return ""
    try:
        return reverse(
            "admin:django_celery_beat_periodictask_change", args=[one.periodic_id]
        )
    except NoReverseMatch:
        return ""
