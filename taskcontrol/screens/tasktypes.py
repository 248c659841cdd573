"""The screen of the task types: priority, limit, defaults and pauses, by code or by hand."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import HttpRequest
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from .. import dialect
from ..audit import perform
from ..bell import request_dispatch
from ..conf import conf, known_queues
from ..exceptions import InvalidCall, StandardTypeProtected
from ..models import TaskLog, TaskType, standard_types_are_protected
from ..options import DECLARABLE
from ..tasktypes import reset_to_declared
from .base import Screen
from .pausebuttons import pause_context, press_pause, press_resume, state_badge


class PolicyField(forms.JSONField):
    """JSON that shows nothing for nothing."""

    def prepare_value(self, value: Any) -> Any:
        """Return the text of the box."""
        return "" if value is None else super().prepare_value(value)


class TaskTypeForm(forms.ModelForm):
    """A type as a person edits it; what code could not declare is refused here too."""

    queue = forms.ChoiceField(required=False)
    backoff = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_('true, or for instance {"factor": 2, "max": 3600, "jitter": true}.'),
    )
    retry_on = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_('Only these are retried: ["ConnectionError", "shop.errors.ApiError"].'),
    )
    discard_on = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_("These are never retried."),
    )
    retention_days = PolicyField(
        required=False,
        widget=forms.Textarea({"rows": 2}),
        help_text=_(
            'Days for which ended tasks are kept: {"Finished": 7}; null means for ever, and '
            "what is left out is as the site says."
        ),
    )
    atomic = forms.TypedChoiceField(
        required=False,
        choices=[("", _("as the site says")), (True, _("yes")), (False, _("no"))],
        coerce=lambda value: value == "True",
        empty_value=None,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        queue: Any = self.fields["queue"]
        names = dict.fromkeys([*known_queues(), *filter(None, [self.instance.queue])])
        usual = ("", _("as the call says, else default"))
        queue.choices = [usual, *((name, name) for name in names)]

    def clean(self) -> dict[str, Any]:
        """Check each changed value as a declaration in code is checked."""
        cleaned = super().clean() or self.cleaned_data
        for name in set(self.changed_data) & DECLARABLE.keys() & cleaned.keys():
            if cleaned[name] is None or cleaned[name] == "":
                continue
            try:
                cleaned[name] = DECLARABLE[name](name, cleaned[name])
            except InvalidCall as error:
                self.add_error(name, str(error))
        return cleaned


class TypeList(ChangeList):
    """A page of types, each with the places that its tasks hold."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page, and in one statement the places of all its types."""
        super().get_results(request)
        types: list[Any] = list(self.result_list)
        held = TaskLog.objects.occupying().filter(method__in=[one.method for one in types])
        places = dict(held.order_by().values_list("method").annotate(n=Count("pk")))
        now = dialect.now(conf.DATABASE)
        for one in types:
            one.places, one.read_at = places.get(one.method, 0), now
        self.result_list = types


class TaskTypeAdmin(Screen):
    """Task types; a standard one is neither deleted nor renamed where that is protected."""

    form = TaskTypeForm
    list_display = ("method", "state", "priority", "limit", "origin", "tasks")
    list_filter = ("is_standard",)
    search_fields = ("method", "description")
    search_help_text = _("A part of the method or of its description")
    actions = ("reset_types",)
    fieldsets = (
        (None, {"fields": ("method", "description", "origin_in_full")}),
        (_("Order and limit"), {"fields": (("priority", "concurrency_limit"),)}),
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

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Fix the method of a stored type: its tasks and its code would not follow."""
        return ("origin_in_full",) if obj is None else ("method", "origin_in_full")

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
            self.button("reset", self._reset),
            *super().get_urls(),
        ]

    def _reset(self, request: HttpRequest, one: Any) -> str | None:
        if not self.has_change_permission(request, one):
            raise PermissionDenied
        return perform(request.user, one, lambda: _reset(one))

    @admin.action(permissions=["change"], description=_("Reset to what code declares"))
    def reset_types(self, request: HttpRequest, queryset: Any) -> None:
        """Drop what persons changed of the selected types."""
        done = [one.method for one in queryset if self._reset(request, one)]
        told = _("%(number)s reset; the others are as code declares them.")
        self.message_user(request, told % {"number": len(done)})

    def page_of(self, row: Any, request: HttpRequest) -> dict[str, Any]:
        """Show one type with its state and buttons."""
        may_change = self.has_change_permission(request, row)
        return {
            **super().page_of(row, request),
            **pause_context(row, may_change=may_change),
            "may_reset": may_change and bool(changed_by_hand(row)),
        }

    # The columns

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return our list."""
        return TypeList

    @admin.display(description=_("state"))
    def state(self, one: Any) -> SafeString:
        """Show whether the type is paused."""
        return state_badge(one, one.read_at)

    @admin.display(description=_("places taken"))
    def limit(self, one: Any) -> str:
        """Show how many places the tasks of this type hold, and how many they may."""
        limit = one.concurrency_limit
        return f"{one.places:,} / {limit:,}" if limit else f"{one.places:,}"

    @admin.display(description=_("says"))
    def origin(self, one: Any) -> Any:
        """Show whether code declares the type, and whether a person changed it since."""
        if one.declared is None:
            return _("not known yet")
        if not one.is_standard:
            return _("not in code")
        return _("code, changed by hand") if changed_by_hand(one) else _("code")

    @admin.display(description=_("Declared"))
    def origin_in_full(self, one: Any) -> Any:
        """Show each value that is not as code declares it."""
        changed = changed_by_hand(one)
        if not one.is_standard or not changed:
            return self.origin(one)
        told = ", ".join(f"{name}: {value!r}" for name, value in changed.items())
        return _("by code; changed by hand, where code says %(values)s") % {"values": told}

    @admin.display(description=_("tasks"))
    def tasks(self, one: Any) -> SafeString:
        """Link to the tasks of this type."""
        url = reverse("admin:taskcontrol_tasklog_changelist")
        query = urlencode({"method": one.method})
        return format_html('<a href="{}?{}">{}</a>', url, query, _("tasks"))


def changed_by_hand(one: TaskType) -> dict[str, Any]:
    """Return what code declares of the values that a person changed."""
    if not one.is_standard:
        return {}
    says = {
        name: (one.declared or {}).get(name, TaskType.default_of(name))
        for name in DECLARABLE
    }
    return {name: said for name, said in sorted(says.items()) if getattr(one, name) != said}


def _reset(one: TaskType) -> str | None:
    if not changed_by_hand(one):
        return None
    reset_to_declared(one)
    request_dispatch()
    return "Reset to what code declares."
