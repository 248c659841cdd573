"""Stores many tasks at once in a process of its own: ``python -m bench.bulk CONTENDER N``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

#: Rows that are stored first, for imports, connections and prepared statements.
WARM = 200
#: Rows that one call of ``bulk_create`` takes, as many as ours.
CHUNK = 1000


def through_us(number: int) -> None:
    """Call bulk_enqueue with a generator."""
    from bench import bodies
    from taskcontrol import bulk_enqueue

    bulk_enqueue(({"asked_at": n} for n in range(number)), method=bodies.noop)


def through_django(number: int) -> None:
    """Insert equal rows by Django's bulk_create, in one transaction, nothing checked."""
    from django.db import transaction

    from taskcontrol.models import TaskLog

    example = TaskLog.objects.latest("pk")
    columns = [
        field.attname for field in TaskLog._meta.concrete_fields if not field.primary_key
    ]
    same = {name: getattr(example, name) for name in columns}

    def rows() -> Iterator[TaskLog]:
        for n in range(number):
            own = {"arguments": {"asked_at": n}, "batch_order": n}
            yield TaskLog(**{**same, **own})

    left = rows()
    with transaction.atomic():
        while chunk := list(islice(left, CHUNK)):
            TaskLog.objects.bulk_create(chunk)


CONTENDERS: dict[str, Callable[[int], None]] = {
    "plain": through_django,
    "taskcontrol": through_us,
}


def main() -> None:
    """Store N rows; print the seconds and by how many megabytes the process grew."""
    import django

    django.setup()
    from taskcontrol import memory

    name, number = sys.argv[1], int(sys.argv[2])
    through_us(WARM)  # and the example of a row
    CONTENDERS[name](WARM)
    memory.reset_peak()
    before, began, cpu = memory.peak_kb(), time.perf_counter(), time.process_time()
    CONTENDERS[name](number)
    took: dict[str, Any] = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "grown_mb": (memory.peak_kb() - before) / 1024,
    }
    sys.stdout.write(json.dumps(took) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the bell's thread has nobody to ring for


if __name__ == "__main__":
    main()
