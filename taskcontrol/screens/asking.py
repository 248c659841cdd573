"""What the actions of lists share: who may, and the question before anything is done."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest
from django.template.response import TemplateResponse

from .. import permissions
from ..audit import REASON_MAX


class AsksFirst(admin.ModelAdmin):
    """A list with actions that are asked for again, with counts, before they are done."""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may cancel the tasks of others."""
        return request.user.has_perm(permissions.CANCEL)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may retry the tasks of others."""
        return request.user.has_perm(permissions.RETRY)

    def has_prioritize_permission(self, request: HttpRequest) -> bool:
        """Return whether the person may pause, resume and reorder tasks."""
        return request.user.has_perm(permissions.PRIORITIZE)

    def question(self, request: HttpRequest, verb: Any, **counted: Any) -> TemplateResponse:
        """Show what ``verb`` would do to what was ``counted``, and a button that does it."""
        context = {
            **self.admin_site.each_context(request),
            "title": verb.label,
            "opts": self.opts,
            "media": self.media,
            "verb": verb,
            "action": request.POST["action"],
            "checkbox": ACTION_CHECKBOX_NAME,
            "reason_max": REASON_MAX,
            "back": request.get_full_path(),
            **counted,
        }
        page = f"admin/taskcontrol/{self.opts.model_name}/ask.html"
        return TemplateResponse(request, page, context)
