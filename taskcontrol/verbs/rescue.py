"""Rescue the tasks of lost workers: let them run again, or fail them.

Workers and beat do this every five seconds. Use it when no worker is up, to see at once
what a crash left behind. A worker counts as lost after WORKER_LOST_AFTER seconds (20)
without a sign of life. A task that was lost too often (LOST_LIMIT), or whose type says
on_lost="fail", fails instead of running again.

    manage.py taskcontrol rescue

Exit status: 0, also when nothing was lost.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take how to answer."""
    parser.add_argument("--json", action="store_true", help='{"rescued": 3}')


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Rescue and say how many tasks were moved."""
    from ..rescue import rescue_lost_tasks
    from ..wording import as_json, counted

    rescued = rescue_lost_tasks()
    if options["json"]:
        stdout.write(as_json({"rescued": rescued}))
    else:
        stdout.write(f"Rescued {counted(rescued, 'task')}.")
