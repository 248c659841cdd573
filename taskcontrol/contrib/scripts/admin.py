"""The screen of the scripts: writing, checking and running them."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from ...audit import perform
from ...exceptions import TaskControlError
from ...screens.addresses import admin_url
from ...screens.base import Screen
from ...screens.presentation import link
from ...shorthands import enqueue_safe
from .models import Script


@admin.register(Script)
class ScriptAdmin(Screen):
    """Scripts; who may change them may do what those who call them may."""

    list_display = ("name", "description", "enabled", "permission", "changed_at", "tasks")
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    readonly_fields = ("changed_at",)
    actions = ("run_scripts",)

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Show the source as programs are shown."""
        if db_field.name == "source":
            attrs = {
                "rows": 24,
                "cols": 92,
                "spellcheck": "false",
                "class": "vLargeTextField",
            }
            style = {"style": "font-family: monospace"}
            kwargs["widget"] = forms.Textarea(attrs | style)
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    @admin.action(permissions=["view"], description=gettext_lazy("Run as yourself"))
    def run_scripts(self, request: HttpRequest, queryset: Any) -> None:
        """Enqueue the selected scripts, without arguments, as the person."""
        for script in queryset:
            try:
                told = perform(request.user, script, partial(_run, script, request.user))
            except TaskControlError as error:
                self.message_user(request, str(error), messages.WARNING)
            else:
                self.message_user(request, f"{script}: {told}")

    @admin.display(description=gettext_lazy("tasks"))
    def tasks(self, script: Script) -> SafeString:
        """Link to the tasks that ran it."""
        return link(
            admin_url("taskcontrol_tasklog_changelist", method=script.method), _("tasks")
        )


def _run(script: Script, user: Any) -> str:
    task = enqueue_safe(script.method, created_by=user)
    return f"Run as task {task.name}."
