"""Connects receivers and checks at start."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TaskControlConfig(AppConfig):
    """The Django app."""

    name = "taskcontrol"
    verbose_name = _("Task control")
    default_auto_field = "django.db.models.BigAutoField"
