"""Say whether no task runs or is about to: the moment to deploy.

It looks three times, a second apart, since a task may hide from a single look between two
attempts. Tasks that wait in the database are no obstacle: they run after the deployment, with
the new code. Only tasks of taskcontrol are known, not what was sent with Celery's delay().

    manage.py taskcontrol suspend-dispatch --reason deploy
    manage.py taskcontrol ready-for-deploy --wait 600 && ./deploy
    manage.py taskcontrol resume-dispatch

Exit status: 0 when nothing runs, 1 with the list of what does.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take the patience, and how to answer."""
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="for what still runs"
    )
    parser.add_argument(
        "--json", action="store_true", help="{ready, suspended, tasks: [{task, …}]}"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Look, and say what is in the way."""
    from ..deployment import busy_tasks
    from ..suspension import can_dispatch_now

    busy = busy_tasks(wait=options["wait"])
    tell = _tell_script if options["json"] else _tell_person
    stdout.write(tell(busy, suspended=not can_dispatch_now()))
    if busy:
        raise SystemExit(1)


def _tell_script(busy: list[Any], *, suspended: bool) -> str:
    from ..wording import as_json

    tasks = [
        {
            "task": task.name,
            "method": task.method,
            "queue": task.queue,
            "status": task.status,
            "started_at": task.started_at,
        }
        for task in busy
    ]
    return as_json({"ready": not busy, "suspended": suspended, "tasks": tasks})


def _tell_person(busy: list[Any], *, suspended: bool) -> str:
    from ..status import ACTIVE
    from ..wording import counted, moment

    lines = [
        f"Not ready: {counted(len(busy), 'task')}." if busy else "Ready: no task runs."
    ]
    for task in busy:
        state = task.status if task.status in ACTIVE else f"{task.status}, stopping"
        began = f", began {moment(task.started_at)}" if task.started_at else ""
        lines.append(f"  {task.name} {task.job_name}: {state}{began}")
    if not suspended:
        lines.append(
            "The dispatcher is not suspended, so tasks may start at any moment: "
            "run suspend-dispatch first."
        )
    return "\n".join(lines)
