"""The screen of the task types: priority, limit, defaults and pauses, by code or by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..bell import request_dispatch
from ..dialect import DatabaseNow
from ..exceptions import StandardTypeProtected
from ..figures import Figures, figures_of
from ..handruns import may_run
from ..models import standard_types_are_protected
from ..status import Status
from .base import Screen
from .gauges import gauge, places_of
from .keptfresh import is_asked_again, kept_true
from .pausebuttons import pause_context, press_pause, press_resume, state_badge
from .presentation import dotted
from .runpage import run_page
from .typeform import TaskTypeForm
from .typepage import origin_of, percentiles, reset, tasks_url, type_context


class TypeList(ChangeList):
    """A page of types, each with the places that its tasks hold and how they went."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, the places of all its types, and how their tasks went."""
        super().get_results(request)
        types: list[Any] = list(self.result_list)
        methods = {one.method for one in types}
        places = places_of(methods)
        # A page that is kept true asks for its gauges alone.
        numbers = {} if is_asked_again(request) else figures_of(methods)
        for one in types:
            one.places = places.get(one.method, 0)
            one.numbers = numbers.get(one.method) or Figures()
        self.result_list = types


class TaskTypeAdmin(Screen):
    """Task types; a standard one is neither deleted nor renamed where that is protected."""

    form = TaskTypeForm
    list_display = ("label", "state", "limit", "ended", "run_time", "priority")
    list_filter = ("is_standard",)
    search_fields = ("method", "description")
    search_help_text = _("A part of the method or of its description")
    actions = ("reset_types",)
    fieldsets = (
        (None, {"fields": ("method", "description", "origin_in_full")}),
        (
            _("Order and limits"),
            {"fields": (("priority", "concurrency_limit", "rate_limit"),)},
        ),
        (
            _("Where a call does not say"),
            {
                "fields": (
                    ("queue", "timeout"),
                    ("max_retries", "retry_delay"),
                    "backoff",
                    ("retry_on", "discard_on"),
                    ("atomic", "on_lost"),
                    "store_celery_result",
                )
            },
        ),
        (_("How long ended tasks are kept"), {"fields": ("retention_days",)}),
        (
            _("What the creator of a task may do"),
            {"fields": (("owner_may_cancel", "owner_may_retry"),)},
        ),
    )

    # Who may do what

    def get_queryset(self, request: HttpRequest) -> Any:
        """Return the types, each with the time of reading."""
        return super().get_queryset(request).annotate(read_at=DatabaseNow())

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Fix the method of a stored type: its tasks and its code would not follow."""
        return ("origin_in_full",) if obj is None else ("method", "origin_in_full")

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may see the types; who may run them may."""
        return super().has_view_permission(request, obj) or may_run(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the person may delete this type, which must not be protected."""
        protected = obj is not None and obj.is_standard and standard_types_are_protected()
        return not protected and super().has_delete_permission(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say which of the types are protected, before anything is deleted."""
        standard = [one.method for one in objs if one.is_standard]
        if standard and standard_types_are_protected():
            return [], {}, set(), [str(StandardTypeProtected(standard))]
        return super().get_deleted_objects(objs, request)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete types; one that became standard since the question refuses."""
        try:
            super().delete_queryset(request, queryset)
        except StandardTypeProtected as error:
            raise PermissionDenied(str(error)) from error

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: Any) -> None:
        """Save, and ask for a dispatch pass: a raised limit frees places."""
        super().save_model(request, obj, form, change)
        request_dispatch()

    # The buttons

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses of the buttons."""
        return [
            self.button("pause", press_pause),
            self.button("resume", press_resume),
            self.button("reset", reset),
            path(
                "<path:object_id>/run/",
                self.admin_site.admin_view(self.run_view),
                name="taskcontrol_tasktype_run",
            ),
            *super().get_urls(),
        ]

    def run_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the form that runs a task of a type, and run it."""
        one = self.get_object(request, unquote(object_id))
        if one is None:
            raise Http404
        return run_page(self, request, one)

    @admin.action(permissions=["change"], description=_("Reset to what code declares"))
    def reset_types(self, request: HttpRequest, queryset: Any) -> None:
        """Drop what persons changed of the selected types."""
        done = [one.method for one in queryset if reset(request, one)]
        told = _("%(number)s reset; the others are as code declares them.")
        self.message_user(request, told % {"number": len(done)})

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one type with its state, its places, its numbers and its buttons."""
        may_change = self.has_change_permission(request, row)
        return {
            **super().page_of(row, request),
            **pause_context(row, may_change=may_change),
            **type_context(row, request, may_change=may_change),
            "run_url": self.url_of("run", quote(row.pk)) if may_run(request.user) else "",
        }

    # The columns

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return TypeList

    @admin.display(description=_("method"), ordering="method")
    def label(self, one: Any) -> SafeString:
        """Show the method, and whether code declares it or a person changed it since."""
        under = format_html('<span class="tc-quiet">{}</span>', origin_of(one))
        return format_html("{}{}", dotted(one.method), under)

    @admin.display(description=_("state"))
    def state(self, one: Any) -> SafeString:
        """Show whether the type is paused."""
        return kept_true(f"state-{one.pk}", state_badge(one, one.read_at))

    @admin.display(description=_("places taken"))
    def limit(self, one: Any) -> SafeString:
        """Show how many places the tasks of this type hold, and how many they may."""
        url = f"{self.url_of('change', quote(one.pk))}#places"
        shown = gauge(one.places, one.concurrency_limit)
        return kept_true(f"places-{one.pk}", format_html('<a href="{}">{}</a>', url, shown))

    @admin.display(description=_("last 24 h"))
    def ended(self, one: Any) -> SafeString:
        """Show how many ended, and how many of them failed, linked to the tasks."""
        numbers, failed = one.numbers, ""
        if numbers.failed:
            url = tasks_url(one.method, Status.FAILED)
            told = _("%(number)s failed") % {"number": f"{numbers.failed:,}"}
            failed = format_html('<a class="tc-why" href="{}">{}</a>', url, told)
        url = tasks_url(one.method)
        return format_html('<a href="{}">{}</a>{}', url, f"{numbers.ended:,}", failed)

    @admin.display(description=_("run p50, p95"))
    def run_time(self, one: Any) -> str:
        """Show how long a run usually takes, and how long nearly every one."""
        return percentiles(one.numbers)

    @admin.display(description=_("Declared"))
    def origin_in_full(self, one: Any) -> Any:
        """Show the same on the page, where each value stands above."""
        return origin_of(one)
