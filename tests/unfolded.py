"""The site's settings under django-unfold, with a database in memory."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, TASKCONTROL

INSTALLED_APPS = ["taskcontrol", "unfold", *INSTALLED_APPS[1:]]
TASKCONTROL = {**TASKCONTROL, "ADMIN_BASE": "unfold.admin.ModelAdmin"}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
