"""Hold tasks back that wait, until they are resumed.

Only a Pending task can be paused by its number. Of a batch also what was sent and has not
begun is taken back, and what is added or retried later waits too; what runs goes on.

    manage.py taskcontrol pause 4711 --reason "wait for the new prices"
    manage.py taskcontrol pause --batch import-7

Exit status: 0 when every task was paused, 1 when one was not (wrong status, not there).
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper

if TYPE_CHECKING:
    from ..answers import Answer


def add_arguments(parser: ArgumentParser) -> None:
    """Take the tasks or batches, the reason, and how to answer."""
    from ..answers import take_targets

    take_targets(parser)
    parser.add_argument("--reason", default="", help="kept with the task")
    parser.add_argument("--json", action="store_true", help="a list of {task, done, text}")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Pause each, and say what came of it."""
    from functools import partial

    from ..answers import answer_targets, tell
    from ..batchcontrol import pause_batch

    reason = options["reason"]
    act, pause_all = partial(_pause, reason=reason), partial(pause_batch, reason=reason)
    answers = answer_targets(options, act, pause_all, "paused")
    tell(answers, stdout, as_json=options["json"])


def _pause(name: str, *, reason: str) -> Answer:
    from ..answers import Answer
    from ..holding import pause

    pause(name, reason=reason)
    return Answer(name, done=True, text="paused")
