"""Let paused tasks go on at their old places in the line.

Of a batch all paused tasks go on; that ends a pause of the batch, and forgives the failures
that held it back: only another one holds the rest back again.

    manage.py taskcontrol resume 4711 4712
    manage.py taskcontrol resume --batch import-7

Exit status: 0 when every task goes on, 1 when one does not (wrong status, not there).
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper

if TYPE_CHECKING:
    from ..answers import Answer


def add_arguments(parser: ArgumentParser) -> None:
    """Take the tasks or batches, and how to answer."""
    from ..answers import take_targets

    take_targets(parser)
    parser.add_argument("--json", action="store_true", help="a list of {task, done, text}")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Resume each, and say what came of it."""
    from ..answers import answer_targets, tell
    from ..batchcontrol import resume_batch

    answers = answer_targets(options, _resume, resume_batch, "resumed")
    tell(answers, stdout, as_json=options["json"])


def _resume(name: str) -> Answer:
    from ..answers import Answer
    from ..holding import resume

    resume(name)
    return Answer(name, done=True, text="goes on")
