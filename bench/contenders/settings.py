"""Settings of the contenders that need Django, as each recommends them for production."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

_url = urlsplit(os.environ["DATABASE_URL"])

SECRET_KEY = "only-for-measuring"  # noqa: S105 - no site
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    *os.environ["BENCH_APPS"].split(","),
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _url.path.strip("/"),
        "USER": _url.username,
        "HOST": _url.hostname,
        "PORT": _url.port,
        "CONN_MAX_AGE": 600,
    }
}

CELERY_BROKER_URL = os.environ["BROKER_URL"]
CELERY_RESULT_BACKEND = "django-db"
CELERY_DB_REUSE_MAX = 10**9
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True

TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

Q_CLUSTER = {
    "name": "bench",
    "workers": 2,
    "timeout": 60,
    "retry": 120,
    "save_limit": 0,  # every success is kept
}
if os.environ.get("BENCH_Q_BROKER") == "redis":
    Q_CLUSTER["redis"] = os.environ["REDIS_URL"]
else:
    Q_CLUSTER["orm"] = "default"
