"""Make one pass of the dispatcher: promote what may run now, and send it.

Workers do this by themselves, each second and whenever something changed. Use it to see
what a pass does while no worker's dispatcher runs, or to start work at once after a repair.
It is safe beside them: passes take turns. Nothing is promoted into slots that do not exist,
so without a live worker the answer is 0; `explain` says why one task waits.

    manage.py taskcontrol dispatch

Exit status: 0 when the pass was made, 1 when the broker did not take the messages.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take how to answer."""
    parser.add_argument("--json", action="store_true", help='{"promoted": 3}')


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Make the pass and say how many were promoted."""
    from ..dispatch import can_dispatch_now, dispatch_pending
    from ..wording import as_json, counted

    promoted = dispatch_pending()
    if options["json"]:
        stdout.write(as_json({"promoted": promoted}))
        return
    stdout.write(f"Promoted {counted(promoted, 'task')}.")
    if not can_dispatch_now():
        stdout.write("The dispatcher is suspended; see `manage.py taskcontrol status`.")
