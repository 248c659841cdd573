"""Loads the whole site: imported by the process that forks victims, and by nobody else."""

from __future__ import annotations

import django

django.setup()

from celery import current_app  # noqa: E402 - the apps must be ready

import project.celery  # noqa: E402, F401 - makes its Celery app the current one
from taskcontrol import signals, tasks  # noqa: E402, F401 - so that no victim imports them
from tests.faults import crashstories  # noqa: E402, F401

current_app.finalize()
