"""Suspend the dispatcher: nothing new is promoted until it is resumed.

What was sent already still starts and runs to its end, and enqueueing goes on: tasks wait in
the database. The state survives the restart of everything, so do not forget resume-dispatch;
every page, `status` and `doctor` show who suspended it, since when and why. Use it before a
deployment or while something that tasks depend on is away.

    manage.py taskcontrol suspend-dispatch --reason "deploying 1.4"

Exit status: 0, also when it was suspended already; who did that and why stays as it is.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take the reason, and how to answer."""
    parser.add_argument("--reason", default="", help="shown to everybody who wonders")
    parser.add_argument("--json", action="store_true", help="the dispatcher's state")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Suspend, and say by whom it is and since when."""
    from ..monitoring import dispatcher_numbers
    from ..suspension import toggle_dispatcher
    from ..wording import as_json

    toggle_dispatcher(enable=False, reason=options["reason"])
    state = dispatcher_numbers()
    stdout.write(as_json(state) if options["json"] else f"The dispatcher is {state}.")
