"""Enqueue a task from the shell, and print its number.

METHOD is the dotted path of a function (or the name of a Celery task) that may run as a
task. Arguments are given by name. A value that is JSON is read as JSON (3, true, null,
[1, 2], "3"), anything else is text; --json-args gives them all at once. What does not fit
the function is refused, and nothing is stored.

    manage.py taskcontrol enqueue shop.tasks.send_invoice --arg invoice=17 --arg copy=true
    manage.py taskcontrol enqueue shop.tasks.close_day --json-args '{"day": "2026-01-31"}' \\
        --queue long --run-in 3600

Exit status: 0 when it was stored, 1 with the reason when it was refused.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from typing import Any

from django.core.management.base import OutputWrapper

#: Options of ``enqueue`` under their own names, with what a shell may write for them.
OPTIONS: dict[str, tuple[Callable[[str], Any], str, str]] = {
    "queue": (str, "NAME", "the type's, else `default`, if left out"),
    "priority": (int, "N", "higher goes first"),
    "timeout": (int, "SECONDS", "its body may run so long"),
    "max_retries": (int, "N", "after a failure"),
    "retry_delay": (float, "SECONDS", "from the failure to the retry"),
    "job_name": (str, "TEXT", "a label for people"),
    "job_id": (str, "KEY", "your own name for it"),
    "batch_id": (str, "KEY", "the batch that it belongs to"),
}
#: Those that are on or off.
FLAGS = {"at_front": "before all of its queue", "paused": "hold it until it is resumed"}
#: Those that are a time: ours counts from now.
TIMES = {
    "run_in": ("run_at", "do not start it before"),
    "expires_in": ("expires", "do not start it after"),
}


def add_arguments(parser: ArgumentParser) -> None:
    """Take the method, its arguments, and the options of ``enqueue`` that a shell needs."""
    parser.add_argument("method", metavar="METHOD", help="its dotted path")
    parser.add_argument(
        "--arg",
        metavar="NAME=VALUE",
        type=_pair,
        action="append",
        default=[],
        dest="pairs",
        help="one argument; may be repeated",
    )
    parser.add_argument(
        "--json-args", metavar="OBJECT", type=_object, default={}, help="arguments as JSON"
    )
    for name, (kind, metavar, text) in OPTIONS.items():
        parser.add_argument(_flag(name), type=kind, metavar=metavar, help=text)
    for name, text in FLAGS.items():
        parser.add_argument(_flag(name), action="store_true", default=None, help=text)
    for name, (_, text) in TIMES.items():
        parser.add_argument(_flag(name), type=float, metavar="SECONDS", help=text)
    parser.add_argument("--json", action="store_true", help='{"task": "17", "status": …}')


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Enqueue, and print the task's number."""
    from datetime import timedelta

    from ..enqueueing import enqueue
    from ..wording import as_json

    same = (*OPTIONS, *FLAGS)
    given = {name: options[name] for name in same if options[name] is not None}
    for ours, (theirs, _) in TIMES.items():
        if options[ours] is not None:
            given[theirs] = timedelta(seconds=options[ours])
    arguments = {**options["json_args"], **dict(options["pairs"])}
    task = enqueue(options["method"], arguments=arguments, **given)
    if options["json"]:
        stdout.write(as_json({"task": task.name, "status": task.status}))
    else:
        stdout.write(task.name)


def _pair(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found or not name:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArgumentTypeError(f'{text!r} is not a JSON object like {{"name": 1}}')
    return value
