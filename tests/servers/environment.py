"""What a process of the site gets so that it works on the database and broker of the tests."""

from __future__ import annotations

from django.conf import settings
from django.db import connections

from tests.servers.databases import database_url


def site_environment() -> dict[str, str]:
    """Return the variables for another process of the site, in the middle of a test."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(connections["default"].settings_dict),
        "BROKER_URL": settings.CELERY_BROKER_URL,
        "REDIS_URL": str(settings.TASKCONTROL["REDIS_URL"] or ""),
        "PYTHONPATH": str(settings.BASE_DIR),
        "PYTHONUNBUFFERED": "1",
    }
