"""The app of the library."""

from __future__ import annotations

from django.apps import AppConfig


class LibraryConfig(AppConfig):
    """Indexes the source files of Python's standard library."""

    name = "project.library"
