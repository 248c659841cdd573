"""Show the tasks by status, the queues, the workers and the dispatcher.

It only reads. For what is wrong and what to do about it ask `doctor`; for one task, `explain`.

    manage.py taskcontrol status
    manage.py taskcontrol status --json | jq '.queues[] | select(.workers == 0)'

Exit status: 0; the numbers are for you to judge.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.core.management.base import OutputWrapper

if TYPE_CHECKING:
    from ..monitoring import QueueNumbers, Snapshot, WorkerNumbers


def add_arguments(parser: ArgumentParser) -> None:
    """Take how to answer."""
    parser.add_argument("--json", action="store_true", help="all numbers as one object")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Print the numbers."""
    from ..monitoring import snapshot
    from ..wording import as_json

    now = snapshot()
    stdout.write(as_json(now) if options["json"] else _page(now))


def _page(now: Snapshot) -> str:
    from ..wording import table

    return "\n".join(
        [
            f"Dispatcher  {now.dispatcher}",
            f"Beat        {_beat(now)}",
            "",
            table(["Status", "Tasks"], _statuses(now)),
            "",
            table(
                ["Queue", "Pending", "Later", "Queued", "Started", "Slots", "Oldest"],
                map(_queue, now.queues),
            ),
            "",
            table(["Worker", "State", "Busy", "Slots", "Queues"], map(_worker, now.workers))
            if now.workers
            else "No worker is there.",
        ]
    )


def _statuses(now: Snapshot) -> list[tuple[str, str]]:
    from ..status import Status

    def number(status: str) -> str:
        more = status == Status.FINISHED and now.tasks.finished_is_more
        return f"{now.tasks.by_status[status]:,}{'+' if more else ''}"

    return [(status, number(status)) for status in Status.values]


def _beat(now: Snapshot) -> str:
    from ..wording import duration

    seconds = now.dispatcher.beat_seconds
    if seconds is None:
        return "never seen"
    silent = "silent, " if now.dispatcher.beat_is_silent else ""
    return f"{silent}last seen {duration(seconds)} ago"


def _queue(queue: QueueNumbers) -> tuple[object, ...]:
    from ..wording import duration

    oldest = "-"
    if queue.oldest_seconds is not None:
        oldest = f"{duration(queue.oldest_seconds)} (task {queue.oldest_task})"
    name = f"{queue.name} (paused)" if queue.paused else queue.name
    running = queue.started + queue.stopping
    return name, queue.pending, queue.later, queue.queued, running, queue.slots, oldest


def _worker(worker: WorkerNumbers) -> tuple[object, ...]:
    return worker.name, worker.state, worker.busy, worker.slots, ", ".join(worker.queues)
