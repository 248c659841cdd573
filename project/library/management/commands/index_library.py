"""``manage.py index_library``: indexes the library and, if asked, waits for the end."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

import taskcontrol
from project.library.tasks import start_indexing
from taskcontrol.batches import counts, progress
from taskcontrol.models import TaskLog
from taskcontrol.status import Status
from taskcontrol.text import last_line

#: Seconds between two looks at the numbers.
POLL = 0.5


class Command(BaseCommand):
    """Parses nothing but ``--wait``; the work is done by the workers."""

    help = (
        "Index the source files of the running Python's standard library. Prints the id "
        "of the batch; the work is done by the workers and goes on without this command."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add ``--wait``."""
        parser.add_argument(
            "--wait",
            action="store_true",
            help="show the progress until all have ended, then the numbers and what failed",
        )

    def handle(self, *, wait: bool, **options: Any) -> None:
        """Start, and follow if asked."""
        coordinator, batch_id = start_indexing()
        self.stdout.write(f"Batch {batch_id}")
        if wait:
            try:
                self.wait_for_coordinator(coordinator)
                self.wait_for_batch(batch_id)
            except KeyboardInterrupt:
                raise CommandError("Not waiting any more; the work goes on.") from None
            self.report(batch_id)

    def wait_for_coordinator(self, task: TaskLog) -> None:
        """Wait until the files are found and enqueued."""
        while not task.ended:
            self.show(
                f"Task {task.pk} finds the files. {taskcontrol.explain(task)[0].text}"
            )
            time.sleep(POLL)
            task.refresh_from_db()
        if task.status != Status.FINISHED:
            raise CommandError(
                f"Task {task.pk} is {task.status}: {last_line(task.error_message)}"
            )

    def wait_for_batch(self, batch_id: str) -> None:
        """Wait until every task of the batch has ended."""
        while (now := progress(batch_id))["done"] < now["total"]:
            self.show("{done} of {total} done, {failed} failed".format_map(now))
            time.sleep(POLL)

    def show(self, line: str) -> None:
        """Write ``line`` over the last one; a file gets nothing but the result."""
        if self.stdout.isatty():
            self.stdout.write(f"\r\x1b[K{line}", ending="")
            self.stdout.flush()

    def report(self, batch_id: str) -> None:
        """Write the numbers, and name what failed."""
        self.show("")
        numbers = [
            f"{count} {status}" for status, count in counts(batch_id).items() if count
        ]
        self.stdout.write(", ".join(numbers))
        failed = TaskLog.objects.filter(batch_id=batch_id, status=Status.FAILED)
        for task in failed.order_by("batch_order"):
            self.stdout.write(f"{task.job_name}: {last_line(task.error_message)}")
