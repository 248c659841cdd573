"""Lets the safe calls find the scripts, when the app is installed."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _


class ScriptsConfig(AppConfig):
    """The Django app of the scripts."""

    name = "taskcontrol.contrib.scripts"
    label = "taskcontrol_scripts"
    verbose_name = _("Task control: scripts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Open the scripts to the safe calls."""
        from ... import safecalls

        try:
            from . import finding
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "RestrictedPython":
                raise
            raise ImproperlyConfigured(
                f"{self.name} stands in INSTALLED_APPS and needs RestrictedPython, which is "
                'not installed: pip install "taskcontrol[scripts]".'
            ) from error
        if finding.find not in safecalls.FINDERS:
            safecalls.FINDERS.append(finding.find)
