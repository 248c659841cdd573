"""Examine everything that can keep tasks from running, and say what to do about it.

It walks the way of a task: settings, database, broker, dispatcher, beat, workers, queues,
what is sent and not claimed, what does not stop, what failed. Each line is OK, WARN or
FAIL, with the remedy below it. It changes nothing, and works on a half-broken site. Ask it
first when tasks do not run.

With the number of a task it walks the procedure for one that seems stuck: where it stands,
what is in its way, how long it runs, what its process does, which locks it holds, what
happened to it before. Run it on the machine of the task's worker, to see its process.

With --account it matches the rows with the messages in the broker and with what the workers
hold. What fits nowhere is looked at again after some seconds and becomes an incident: lost,
ghost, double or zombie. The sweeps mend it by themselves; --repair does it now.

    manage.py taskcontrol doctor
    manage.py taskcontrol doctor 4711
    manage.py taskcontrol doctor --account --repair
    manage.py taskcontrol doctor --json | jq '.findings[] | select(.level != "OK")'

Exit status: 0 when all is well, 1 with warnings, 2 when something fails.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take the task, if it is about one, and how to answer."""
    parser.add_argument(
        "task", metavar="ID", nargs="?", help="a task that seems stuck; else the whole site"
    )
    parser.add_argument(
        "--account",
        action="store_true",
        help="match rows, messages and what workers hold, instead",
    )
    parser.add_argument(
        "--repair", action="store_true", help="with --account: mend what is found, now"
    )
    parser.add_argument(
        "--json", action="store_true", help="{level, findings: [{level, subject, …}]}"
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Print the findings, and end as bad as the worst of them."""
    from ..doctor.diagnosis import worst
    from ..doctor.findings import Level
    from ..wording import as_json

    findings = _examined(options)
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


def _examined(options: dict[str, Any]) -> list[Any]:
    from ..doctor.accounts import examine_account
    from ..doctor.diagnosis import examine
    from ..doctor.onetask import examine_task
    from ..lookup import find_task

    if options["repair"] and not options["account"]:
        raise CommandError("--repair mends what --account finds: give both.")
    if options["task"] and options["account"]:
        raise CommandError("--account is about the whole site: give no task with it.")
    if options["account"]:
        return list(examine_account(repair=options["repair"]))
    return examine_task(find_task(options["task"])) if options["task"] else examine()
