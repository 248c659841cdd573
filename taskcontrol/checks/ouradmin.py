"""System checks of admin: whether all of its pages have the live module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Warning as Caution
from django.template import TemplateDoesNotExist, engines
from django.template.backends.django import DjangoTemplates

#: Every page of admin extends it; ours extends the next of its name, and adds the module.
TEMPLATE = "admin/base_site.html"
MODULE = "taskcontrol_js"


def check_admin() -> Iterator[CheckMessage]:
    """Yield which template keeps the module from the pages of admin."""
    hiding = _hiding() if apps.is_installed("django.contrib.admin") else None
    if hiding is not None:
        yield Caution(
            f"Only taskcontrol's own pages of admin have its module: {hiding} is found "
            "before taskcontrol's template and hides it.",
            hint='Put "taskcontrol" above "django.contrib.admin", and above a theme, in '
            f'INSTALLED_APPS. A template of your own has to extend "{TEMPLATE}".',
            id="taskcontrol.W046",
        )


def _hiding() -> str | None:
    """Return the path of the template behind which none is looked for, if ours stands there."""
    for path, text in _found():
        if MODULE in text:
            return None
        if TEMPLATE not in text:
            return path
    return None


def _found() -> Iterator[tuple[str, str]]:
    """Yield each template of that name with its text, in the order in which they are found."""
    backends = [one for one in engines.all() if isinstance(one, DjangoTemplates)]
    for backend in backends[:1]:
        loaders: Any = backend.engine.template_loaders
        for loader in loaders:
            for origin in loader.get_template_sources(TEMPLATE):
                try:
                    yield str(origin.name), loader.get_contents(origin)
                except TemplateDoesNotExist:
                    continue
