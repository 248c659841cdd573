"""Start Celery beat, the clock of the periodic tasks, in this process.

It is Celery's own beat of the project's Celery app. Schedules stand in the database, to be
edited in admin, where django-celery-beat is installed; else in CELERY_BEAT_SCHEDULE alone.
Run one beat; a second one does no harm, it only sends what is due twice.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.core.management.base import OutputWrapper

DEFAULT_SCHEDULER = "celery.beat:PersistentScheduler"
DATABASE_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"


def add_arguments(parser: ArgumentParser) -> None:
    """Take the one option of beat that matters here."""
    parser.add_argument("--loglevel", default="info", metavar="L", help="info if left out")
    parser.add_argument("--quiet", action="store_true", help="without Celery's banner")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Become Celery beat until it is told to stop."""
    from ..celeryapp import project_app
    from ..standalone.datafolder import data_folder

    app = project_app()
    scheduler = app.conf.beat_scheduler
    if scheduler == DEFAULT_SCHEDULER and apps.is_installed("django_celery_beat"):
        scheduler = DATABASE_SCHEDULER
    arguments = ["--quiet"] if options["quiet"] else []
    arguments += ["beat", "--scheduler", scheduler, "--loglevel", options["loglevel"]]
    if scheduler == DEFAULT_SCHEDULER:
        arguments += ["--schedule", str(data_folder() / "beat-schedule")]
    app.start(arguments)
