"""Run failed or canceled tasks again, by hand.

The task waits in its line like any other; with --now it goes first, under the same limits.
It counts as a retry, but needs none left. A failed task whose automatic retry is due later
does not wait for it. Of a batch only the failed ones run again, with --canceled the canceled
ones too.

    manage.py taskcontrol retry 4711 4712
    manage.py taskcontrol retry 4711 --now
    manage.py taskcontrol retry --batch import-7

Exit status: 0 when every task runs again, 1 when one does not (wrong status, not there).
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, OutputWrapper

if TYPE_CHECKING:
    from ..answers import Answer


def add_arguments(parser: ArgumentParser) -> None:
    """Take the tasks or batches, which of them and where, and how to answer."""
    from ..answers import take_targets

    take_targets(parser)
    parser.add_argument("--now", action="store_true", help="put the tasks first in line")
    parser.add_argument(
        "--canceled", action="store_true", help="of a batch also what was canceled"
    )
    parser.add_argument("--json", action="store_true", help="a list of {task, done, text}")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Retry each, and say what came of it."""
    from functools import partial

    from ..answers import answer_targets, tell
    from ..batchcontrol import retry_batch

    if options["now"] and options["batch"]:
        raise CommandError("--now puts single tasks first; a batch waits in its line.")
    act = partial(_retry, now=options["now"])
    retry_all = partial(retry_batch, canceled=options["canceled"])
    answers = answer_targets(options, act, retry_all, "run again")
    tell(answers, stdout, as_json=options["json"])


def _retry(name: str, *, now: bool) -> Answer:
    from ..answers import Answer
    from ..retries import retry

    task = retry(name, now=now)
    if task.occupies:
        text = "runs again when the body of its last attempt is gone"
    else:
        text = "runs again, first in line" if now else "runs again"
    return Answer(name, done=True, text=text)
