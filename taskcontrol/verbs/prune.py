"""Delete ended tasks that are older than the retention.

TASKCONTROL["RETENTION_DAYS"] says after how many days each status goes: Finished and
Canceled 30, Failed 90; a type may say otherwise. What waits, runs or is to be retried
stays, however old it is, and batches keep their numbers. Beat does this every hour, for
five minutes at most; this command goes on until all is gone.

    manage.py taskcontrol prune --dry-run      # how many would go
    manage.py taskcontrol prune

Exit status: 0, also when nothing was old enough.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take whether to delete at all, and how to answer."""
    parser.add_argument("--dry-run", action="store_true", help="count, and delete nothing")
    parser.add_argument("--json", action="store_true", help='{"deleted": 3}')


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Delete, or count, and say how many."""
    from ..pruning import count_prunable, prune_ended_tasks
    from ..wording import as_json, counted

    if options["dry_run"]:
        would = count_prunable()
        if options["json"]:
            stdout.write(as_json({"would_delete": would}))
            return
        stdout.write(f"Would delete {counted(sum(would.values()), 'task')}.")
        for status, number in would.items():
            stdout.write(f"  {status} {number:,}")
        return
    deleted = prune_ended_tasks(seconds=math.inf)
    if options["json"]:
        stdout.write(as_json({"deleted": deleted}))
    else:
        stdout.write(f"Deleted {counted(deleted, 'task')}.")
