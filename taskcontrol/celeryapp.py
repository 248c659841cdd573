"""Finds the Celery app of the project that this process belongs to."""

from __future__ import annotations

import os

from celery import Celery, current_app
from celery.app.utils import find_app
from django.core.exceptions import ImproperlyConfigured


def project_app() -> Celery:
    """Return the app that the project made, as ``celery -A project`` would find it."""
    if current_app.main != "default":
        return current_app
    package = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0]
    try:
        return find_app(package)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"No Celery app was found in {package!r}. Make one in {package}/celery.py and "
            f"import it in {package}/__init__.py, as Celery's first steps with Django say."
        ) from error


#: The result backend of django-celery-results.
DATABASE_BACKEND = "django_celery_results.backends.database.DatabaseBackend"


def results_go_to_django() -> bool:
    """Return whether results of Celery are stored by django-celery-results."""
    kinds = type(project_app().backend).__mro__
    return DATABASE_BACKEND in {f"{kind.__module__}.{kind.__qualname__}" for kind in kinds}
