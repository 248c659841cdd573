"""Examine everything that can keep tasks from running, and say what to do about it.

It walks the way of a task: settings, database, broker, dispatcher, beat, workers, queues,
what is sent and not claimed, what does not stop, what failed. Each line is OK, WARN or
FAIL, with the remedy below it. It changes nothing, and works on a half-broken site. Ask it
first when tasks do not run.

With the number of a task it walks the procedure for one that seems stuck: where it stands,
what is in its way, how long it runs, what its process does, which locks it holds, what
happened to it before. Run it on the machine of the task's worker, to see its process.

    manage.py taskcontrol doctor
    manage.py taskcontrol doctor 4711
    manage.py taskcontrol doctor --json | jq '.findings[] | select(.level != "OK")'

Exit status: 0 when all is well, 1 with warnings, 2 when something fails.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take the task, if it is about one, and how to answer."""
    parser.add_argument(
        "task", metavar="ID", nargs="?", help="a task that seems stuck; else the whole site"
    )
    parser.add_argument(
        "--json", action="store_true", help="{level, findings: [{level, subject, …}]}"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Print the findings, and end as bad as the worst of them."""
    from ..doctor.diagnosis import examine, worst
    from ..doctor.findings import Level
    from ..doctor.onetask import examine_task
    from ..lookup import find_task
    from ..wording import as_json

    findings = examine_task(find_task(options["task"])) if options["task"] else examine()
    level = worst(findings)
    if options["json"]:
        stdout.write(as_json({"level": level, "findings": findings}))
    else:
        for one in findings:
            stdout.write(f"{one.level:<4}  {one.subject}: {one.text}")
            if one.advice:
                stdout.write(f"      -> {one.advice}")
    if level is not Level.OK:
        raise SystemExit(list(Level).index(level))
