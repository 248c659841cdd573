"""The index of the library in admin, and the button that makes it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from .models import SourceFile
from .views import index_now


@admin.register(SourceFile)
class SourceFileAdmin(admin.ModelAdmin):
    """What the tasks found: rows to read; only indexing writes them."""

    list_display = (
        "path",
        "root",
        "lines",
        "functions",
        "classes",
        "import_count",
        "indexed_at",
        "task",
    )
    list_filter = ("root",)
    search_fields = ("path",)
    search_help_text = "Part of a path"

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the button."""
        view = self.admin_site.admin_view(index_now)
        back = {"back": "admin:library_sourcefile_changelist"}
        return [
            path("index/", view, back, name="library_sourcefile_index"),
            *super().get_urls(),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes a row by hand."""
        return False

    @admin.display(description="imports")
    def import_count(self, file: SourceFile) -> int:
        """Return how many modules the file imports."""
        return len(file.imports)

    @admin.display(description="indexed by", ordering="task_id")
    def task(self, file: SourceFile) -> str | None:
        """Link to the task that wrote this row."""
        if file.task_id is None:
            return None
        url = reverse("admin:taskcontrol_tasklog_change", args=[file.task_id])
        return format_html('<a href="{}">task {}</a>', url, file.task_id)
