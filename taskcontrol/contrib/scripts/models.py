"""A script as it is stored: its name, its text, and who may call it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from ... import safecalls

#: What stands before the name in the method of a task that runs a script.
PREFIX = "script:"


class Script(models.Model):
    """A small program that people with the permission write, called by its name."""

    name = models.CharField(
        _("name"),
        max_length=100,
        unique=True,
        validators=[
            RegexValidator(
                r"^\w[\w \-]*\Z", _("Letters, digits, spaces, hyphens and underscores.")
            )
        ],
        help_text=_("By which it is called."),
    )
    description = models.CharField(_("description"), max_length=300, blank=True)
    source = models.TextField(
        _("source"),
        help_text=_(
            "The body of a function: what was given stands in args; return a result."
        ),
    )
    enabled = models.BooleanField(_("enabled"), default=True)
    permission = models.CharField(
        _("permission"),
        max_length=255,
        blank=True,
        validators=[RegexValidator(r"^\w+\.\w+\Z", _("It reads app_label.codename."))],
        help_text=_("That the caller must have: app_label.codename. Empty: none."),
    )
    changed_at = models.DateTimeField(_("changed"), auto_now=True)

    class Meta:
        verbose_name = _("script")
        verbose_name_plural = _("scripts")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def method(self) -> str:
        """The method of the tasks that run it, which is also their type."""
        return f"{PREFIX}{self.name}"

    def clean(self) -> None:
        """Refuse a text that cannot run, and the name of a function of the code."""
        from .interpreter import faults_in

        wrong: dict[str, Any] = {}
        if self.source and (faults := faults_in(self.source)):
            wrong["source"] = faults
        if path := safecalls.path_named(self.name):
            wrong["name"] = _("This is the name of %(path)s.") % {"path": path}
        if wrong:
            raise ValidationError(wrong)
