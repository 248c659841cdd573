"""Start everything: broker, database, workers, beat and web, under one parent.

It migrates the database, makes a first login, prints the address when the page answers and
the workers are there, restarts what dies, and ends all of it on Ctrl-C. Its data lies in
one folder (.taskcontrol, or TASKCONTROL_DATA_DIR), and the next `up` goes on from there.

The environment decides what is used. BROKER_URL: without it a broker is started on a
private socket. DATABASE_URL and REDIS_URL: read by the settings of the project. This is for
development and small installations; docs/production.md says what to run elsewhere.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take what differs between two machines."""
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1 if left out")
    parser.add_argument(
        "--port", type=int, help="7340 if left out, or the next port that is free"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=int,
        default=min(4, max(2, os.cpu_count() or 2)),
        help="tasks that run at the same time (default here: %(default)s)",
    )
    parser.add_argument(
        "--without",
        choices=("worker", "beat", "web"),
        action="append",
        default=[],
        help="leave this out, because you start it yourself; may be repeated",
    )
    parser.add_argument(
        "--loglevel",
        default="warning",
        metavar="L",
        help="of workers and beat; info shows each task (default: warning)",
    )


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Run everything until it is told to stop."""
    if os.name != "posix":
        raise CommandError("`up` needs Linux or macOS; on Windows use it inside WSL.")
    from ..standalone.household import Household, Wishes

    wishes = {
        key: options[key] for key in ("host", "port", "workers", "without", "loglevel")
    }
    try:
        Household(Wishes(**wishes), stdout).run()
    except KeyboardInterrupt as again:
        raise CommandError("Ended at once.", returncode=130) from again
