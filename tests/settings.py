"""The site's settings, with a database and a broker that belong to the tests."""

from __future__ import annotations

# The laboratory says where the site keeps its data, so it comes first.
from tests.lab import BROKER_SOCKET, LAB, RECORD  # isort: skip

import json
import os

from project.settings import *  # noqa: F403
from project.settings import (
    CELERY_BEAT_SCHEDULE,
    CELERY_BROKER_TRANSPORT_OPTIONS,
    INSTALLED_APPS,
    TASKCONTROL,
)
from tests.servers.databases import database_settings

os.environ.setdefault("TASKCONTROL_TEST_RECORD", str(RECORD))

SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "taskcontrol.contrib.scripts", "tests"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

#: sqlite, postgresql or mariadb; a DATABASE_URL wins.
TEST_DATABASE = os.environ.get("TASKCONTROL_TEST_DATABASE") or "sqlite"
DATABASES = {"default": database_settings(TEST_DATABASE, LAB)}

if not os.environ.get("BROKER_URL"):
    CELERY_BROKER_URL = f"redis+socket://{BROKER_SOCKET}"
    TASKCONTROL = {**TASKCONTROL, "REDIS_URL": f"unix://{BROKER_SOCKET}"}
    # A test that stops the broker should not wait as long as a site may.
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        **CELERY_BROKER_TRANSPORT_OPTIONS,
        "socket_timeout": 3,
        "socket_connect_timeout": 1,
    }

#: A beat of a test sends more often than a site's: {"dispatch": 0.2}.
for _entry, _seconds in json.loads(os.environ.get("TASKCONTROL_TEST_BEAT") or "{}").items():
    CELERY_BEAT_SCHEDULE[_entry]["schedule"] = _seconds

#: A worker of a test gets shorter times than a site: {"CANCEL_GRACE": 1}.
TASKCONTROL = {**TASKCONTROL, **json.loads(os.environ.get("TASKCONTROL_TEST_CONF") or "{}")}
