"""Examine everything that can keep tasks from running, and say what to do about it.

It walks the way of a task: settings, database, broker, dispatcher, beat, workers, queues,
what is sent and not claimed, what does not stop, what failed. Each line is OK, WARN or
FAIL, with the remedy below it. It changes nothing, and works on a half-broken site. Ask it
first when tasks do not run; for one task ask `explain`.

    manage.py taskcontrol doctor
    manage.py taskcontrol doctor --json | jq '.findings[] | select(.level != "OK")'

Exit status: 0 when all is well, 1 with warnings, 2 when something fails.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take how to answer."""
    parser.add_argument(
        "--json", action="store_true", help="{level, findings: [{level, subject, …}]}"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Print the findings, and end as bad as the worst of them."""
    from ..doctor.diagnosis import examine, worst
    from ..doctor.findings import Level
    from ..wording import as_json

    findings = examine()
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
