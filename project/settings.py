"""Settings of the site: everything embedded by default, each part replaced by a variable."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from taskcontrol.standalone.broker import EmbeddedBroker

BASE_DIR = Path(__file__).resolve().parent.parent
#: Where the embedded database and broker keep their data.
DATA_DIR = Path(os.environ.get("TASKCONTROL_DATA_DIR") or BASE_DIR / ".taskcontrol")

DEBUG = os.environ.get("DEBUG", "1").lower() in {"1", "true", "yes", "on"}
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "DEBUG is off and SECRET_KEY is not set. Set the environment variable "
            "SECRET_KEY to a long random string."
        )
    SECRET_KEY = "insecure-and-only-for-development"
ALLOWED_HOSTS = [
    host for host in os.environ.get("ALLOWED_HOSTS", "").split(",") if host
] or (["localhost", "127.0.0.1", "[::1]", "testserver"] if DEBUG else [])

INSTALLED_APPS = [
    "taskcontrol",  # before admin: then every page of admin has its module
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_celery_beat",
    "project.library",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "taskcontrol.middleware.CurrentUserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
ASGI_APPLICATION = "project.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATA_DIR.mkdir(parents=True, exist_ok=True)
DATABASE: Any = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": str(DATA_DIR / "db.sqlite3"),
    "CONN_MAX_AGE": 600,
}
if os.environ.get("DATABASE_URL"):
    DATABASE = dj_database_url.parse(
        os.environ["DATABASE_URL"], conn_max_age=600, conn_health_checks=True
    )
if DATABASE["ENGINE"] == "django.db.backends.sqlite3":
    DATABASE |= {
        # WAL and IMMEDIATE together: with either alone, several processes that write get
        # "database is locked".
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
        "CONN_HEALTH_CHECKS": False,
        # A file, because the tests' workers are other processes.
        "TEST": {"NAME": str(DATA_DIR / "test.sqlite3")},
    }
DATABASES = {"default": DATABASE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
# The login of admin lets in the staff alone; My tasks is for everybody.
LOGIN_URL = "library:login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "library:home"

#: Without BROKER_URL the broker that ``up`` starts, so that a second terminal finds it too.
CELERY_BROKER_URL = os.environ.get("BROKER_URL") or EmbeddedBroker(DATA_DIR / "broker").url
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_DEFAULT_QUEUE = "default"
# What taskcontrol needs of Celery; `manage.py check` names each one that is missing.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = CELERY_BROKER_URL.startswith(("redis", "valkey", "unix"))
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_TASK_TRACK_STARTED = False
CELERY_WORKER_SEND_TASK_EVENTS = False
# What tasks print stands in their debug log; at the level of warnings it would flood the screen.
CELERY_WORKER_REDIRECT_STDOUTS_LEVEL = "INFO"
CELERY_DB_REUSE_MAX = 10**9
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_BROKER_POOL_ACQUIRE_TIMEOUT = 5
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {
        "visibility_timeout": 3600,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }
    if CELERY_WORKER_DISABLE_PREFETCH
    else {"confirm_publish": True}
)

# Periodic tasks may be edited in admin; beat writes the entries below anew when it starts.
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"


def expires_after(seconds: int) -> dict[str, int]:
    """A tick that no worker took in time is not worth running: the next one is there.

    Beat's own scheduler reads the first name, that of django-celery-beat the second.
    """
    return {"expires": seconds, "expire_seconds": seconds}


# The workers do all this on timers of their own, every second or five: beat is for when these
# are stuck. A pass begins with the retries that are due.
CELERY_BEAT_SCHEDULE = {
    "dispatch": {
        "task": "taskcontrol.dispatch",
        "schedule": 5.0,
        "options": expires_after(5),
    },
    "retry-failed": {
        "task": "taskcontrol.retry_failed",
        "schedule": 60.0,
        "options": expires_after(60),
    },
    "resend": {
        "task": "taskcontrol.resend",
        "schedule": 30.0,
        "options": expires_after(30),
    },
    "rescue": {
        "task": "taskcontrol.rescue",
        "schedule": 15.0,
        "options": expires_after(15),
    },
    "schedules": {
        "task": "taskcontrol.schedules",
        "schedule": 15.0,
        "options": expires_after(15),
    },
    "roll-up": {
        "task": "taskcontrol.roll_up",
        "schedule": 60.0,
        "options": expires_after(60),
    },
    "prune": {
        "task": "taskcontrol.prune",
        "schedule": 3600.0,
        "options": expires_after(3600),
    },
}

TASKCONTROL = {
    "REDIS_URL": os.environ.get("REDIS_URL") or None,
    "ALLOWED_MODULES": [
        module
        for module in os.environ.get("TASKCONTROL_ALLOWED_MODULES", "").split(",")
        if module
    ],
}
