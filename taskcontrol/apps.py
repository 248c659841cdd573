"""Connects receivers and checks at start."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TaskControlConfig(AppConfig):
    """The Django app."""

    name = "taskcontrol"
    verbose_name = _("Task control")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect Celery's signals and Django's, and register the system checks."""
        from django.contrib.auth.signals import user_logged_out
        from django.db.models.signals import post_delete, post_migrate, post_save

        from . import (
            announcing,
            callbacks,
            celeryresults,
            documents,
            schedulerows,
            tasktypes,
            timekeeping,
        )
        from .live.reader import close_streams
        from .models import TaskType

        tasktypes.declare_actions()
        announcing.TELLERS += [
            documents.tell_document,
            callbacks.tell_callbacks,
            celeryresults.tell_celery,
        ]
        import_module(".signals", __package__)  # its receivers connect themselves
        import_module(".checks.site", __package__)  # they register themselves
        post_save.connect(tasktypes.forget, sender=TaskType)
        post_delete.connect(tasktypes.forget, sender=TaskType)
        post_migrate.connect(tasktypes.sync_declared, sender=self)
        post_migrate.connect(schedulerows.sync_schedules, sender=self)
        user_logged_out.connect(close_streams)
        timekeeping.follow_the_beat()
