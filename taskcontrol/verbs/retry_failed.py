"""Retry the failed tasks whose automatic retry is due.

Every dispatch pass begins with this, so it is needed only where no dispatcher runs. It
touches only tasks with retries left; to run a task again by hand use `retry`.

    manage.py taskcontrol retry-failed

Exit status: 0, also when nothing was due.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take how to answer."""
    parser.add_argument("--json", action="store_true", help='{"retried": 3}')


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Retry what is due and say how many that were."""
    from ..retries import retry_failed_tasks
    from ..wording import as_json, counted

    retried = retry_failed_tasks()
    if options["json"]:
        stdout.write(as_json({"retried": retried}))
    else:
        stdout.write(f"Retried {counted(retried, 'task')}.")
