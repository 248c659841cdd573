"""A theme of admin, as far as taskcontrol is concerned: a class to make screens of."""

from __future__ import annotations

from django.contrib.admin import ModelAdmin
from django.template.backends.django import get_installed_libraries


class ThemedAdmin(ModelAdmin):
    """What a theme brings."""

    is_themed = True
    #: A theme may draw a widget while its class is made, which loads the tags of all apps.
    libraries = frozenset(get_installed_libraries())
