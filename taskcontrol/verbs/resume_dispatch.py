"""Resume the dispatcher after suspend-dispatch.

What waited is promoted at once, in its order and under its limits.

    manage.py taskcontrol resume-dispatch

Exit status: 0, also when it was not suspended.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take how to answer."""
    parser.add_argument("--json", action="store_true", help="the dispatcher's state")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Resume, and say so."""
    from ..monitoring import dispatcher_numbers
    from ..suspension import toggle_dispatcher
    from ..wording import as_json

    toggle_dispatcher(enable=True)
    state = dispatcher_numbers()
    stdout.write(as_json(state) if options["json"] else f"The dispatcher is {state}.")
