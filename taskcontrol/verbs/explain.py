"""Say why a task is not running: every reason, what matters most first.

Of a task that runs or has ended it says where, since when and how it ended. The reasons are
those of the dispatcher itself: pauses, limits with the tasks that hold the places, busy
slots, queues without a worker, the tasks that go first.

    manage.py taskcontrol explain 4711
    manage.py taskcontrol explain 4711 --json

Exit status: 0, or 1 when there is no such task.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take the task, and how to answer."""
    parser.add_argument("task", metavar="ID", help="the number of the task")
    parser.add_argument(
        "--json", action="store_true", help="the reasons with code, text, until, holders"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Print the reasons."""
    from ..explanation import explain
    from ..lookup import find_task
    from ..wording import as_json

    task = find_task(options["task"])
    reasons = explain(task)
    if options["json"]:
        answer = {"task": task.name, "status": task.status, "reasons": reasons}
        stdout.write(as_json(answer))
        return
    stdout.write(f"{task.name} {task.job_name}: {task.status}")
    for reason in reasons:
        stdout.write(f"  {reason.text}")
