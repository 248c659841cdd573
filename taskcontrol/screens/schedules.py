"""The screen of the schedules: when each runs, what it skipped, and the buttons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from .. import permissions, schedules
from ..audit import perform
from ..dialect import DatabaseNow
from ..exceptions import TaskControlError
from ..schedulerows import change as change_row, insert
from ..timekeeping import keep_time
from ..timetables import beat_is_installed
from ..wording import moment
from .base import Screen
from .cronwords import in_words
from .keptfresh import kept_true
from .presentation import ago, dotted, visible
from .runstrips import read_runs, strip, with_last_runs
from .scheduleform import ScheduleForm
from .schedulepage import last_run_of, runs_link, schedule_context, state_of

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


class ScheduleList(ChangeList):
    """A page of schedules, with the last runs of all of them read at once."""

    def get_queryset(self, request: HttpRequest, *args: Any) -> Any:
        """Return the schedules of the page with the keys of their last runs."""
        return with_last_runs(super().get_queryset(request, *args))

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, the last task of each, and its last runs."""
        super().get_results(request)
        schedules: list[Any] = list(self.result_list)
        read_runs(schedules)
        for one in schedules:
            one.linked = request.user.has_perm(permissions.VIEW)
        self.result_list = schedules


class ScheduleAdmin(Screen):
    """Schedules; whoever manages them may do everything here."""

    form = ScheduleForm
    raw_id_fields = ("run_as",)
    list_display = ("label", "state", "next_run", "last_run", "history")
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

    def get_form(self, request: HttpRequest, *given: Any, **options: Any) -> Any:
        """Return the form, which masks secrets for most as the page of a task does."""
        form: Any = super().get_form(request, *given, **options)
        form.sees_secrets = request.user.has_perm(permissions.SENSITIVE)
        return form

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
            except TaskControlError as error:
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

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return ScheduleList

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one schedule with its times, its runs, its buttons and what it skipped."""
        may_act = self.has_change_permission(request, row)
        return {
            **super().page_of(row, request),
            **schedule_context(row, request),
            "may_act": may_act,
        }

    @admin.display(description=gettext_lazy("schedule"))
    def label(self, one: Any) -> SafeString | str:
        """Show the name, and what it does where the name does not say that."""
        if one.name.startswith(one.method):
            return visible(one.name)
        return format_html(
            '{}<span class="tc-quiet">{}</span>', visible(one.name), dotted(one.method)
        )

    @admin.display(description=gettext_lazy("state"))
    def state(self, one: Any) -> SafeString:
        """Show whether it runs and is in time, or why not."""
        return kept_true(f"state-{one.pk}", state_of(one, one.last))

    @admin.display(description=gettext_lazy("next run"))
    def next_run(self, one: Any) -> SafeString:
        """Show when it runs next, and its times in words."""
        at = kept_true(f"next-{one.pk}", ago(one.next_run_at, one.read_at))
        said, told = visible(in_words(one.timetable)), visible(one.timetable)
        return format_html('{}<span class="tc-quiet" title="{}">{}</span>', at, told, said)

    @admin.display(description=gettext_lazy("last run"))
    def last_run(self, one: Any) -> SafeString:
        """Link to the last task with its status."""
        return kept_true(f"last-{one.pk}", last_run_of(one, one.last))

    @admin.display(description=gettext_lazy("runs"))
    def history(self, one: Any) -> SafeString:
        """Show how the last runs went, how many there were, and what was skipped and why."""
        shown = strip(one.runs, linked=one.linked) if one.runs else ""
        all_of_it = format_html("{}{}{}", shown, runs_link(one), _skipped(one))
        return kept_true(f"runs-{one.pk}", all_of_it)


def _skipped(one: Any) -> SafeString | str:
    if not one.skipped_count:
        return ""
    told = _("%(number)s skipped: %(why)s")
    text = told % {"number": f"{one.skipped_count:,}", "why": visible(one.skipped_why)}
    return format_html('<span class="tc-quiet">{}</span>', text)
