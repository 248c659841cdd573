"""A theme of admin, as far as taskcontrol is concerned: a class to make screens of."""

from __future__ import annotations

from django.contrib.admin import ModelAdmin


class ThemedAdmin(ModelAdmin):
    """What a theme brings."""

    is_themed = True
