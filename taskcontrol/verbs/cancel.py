"""Cancel tasks, wherever they are: waiting, sent or running.

What waits never starts. A running body is told to stop within about a second and, on
prefork, ended by force after the grace period (CANCEL_GRACE, 10 s). A task that has ended
stays as it ended. `retry` lets a canceled task run again. A canceled batch takes no more
tasks until it is retried.

    manage.py taskcontrol cancel 4711 4712 --reason "wrong customer"
    manage.py taskcontrol cancel --batch import-7

Exit status: 0 when every task was canceled, 1 when one was not (ended, or not there).
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
    """Cancel each, and say what came of it."""
    from functools import partial

    from ..answers import answer_targets, tell
    from ..batchcontrol import cancel_batch

    act = partial(_cancel, reason=options["reason"])
    cancel_all = partial(cancel_batch, reason=options["reason"])
    answers = answer_targets(options, act, cancel_all, "canceled")
    tell(answers, stdout, as_json=options["json"])


def _cancel(name: str, *, reason: str) -> Answer:
    from ..answers import Answer
    from ..cancellation import cancel
    from ..lookup import find_task

    task = find_task(name)
    done = cancel(task, reason=reason)
    if not done:
        task.refresh_from_db()
        return Answer(name, done, f"had ended already: {task.status}")
    if task.occupies:
        return Answer(name, done, "canceled; its body is told to stop")
    return Answer(name, done, "canceled")
