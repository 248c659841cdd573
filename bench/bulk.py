"""Many tasks at once, beside the ways of the database; ``python -m bench.bulk CONTENDER N``."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from bench.commands import Env
from bench.stage import Stage
from bench.workloads import Figures

#: Rows that are stored first, for imports, connections and prepared statements.
WARM = 200
#: Rows that one call of ``bulk_create`` takes, as many as ours.
CHUNK = 1000


def bulk(stage: Stage, who: str, number: int) -> Figures:
    """Store many at once, from a generator, on PostgreSQL."""
    stage.clear()
    return _rate(stage, who, number)


def bulk_on_sqlite(stage: Stage, who: str, number: int) -> Figures:
    """Do the same on SQLite."""
    return _rate(stage, who, number, stage.new_sqlite())


def bulk_on_mariadb(stage: Stage, who: str, number: int) -> Figures:
    """Do the same on MariaDB."""
    return _rate(stage, who, number, stage.new_mariadb())


def _rate(stage: Stage, who: str, number: int, where: Env = None) -> Figures:
    with stage.meter() as spent:
        took = stage.python("bench.bulk", who, number, env=where)
    return {
        "per_second": number / took["seconds"],
        "cpu_ms": 1000 * took["cpu"] / number,
        "grown_mb": took["grown_mb"],
        "foreign": spent["foreign"],
    }


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


def through_copy(number: int) -> None:
    """Send equal rows by COPY, as text that was made before: the least that storing takes."""
    from django.db import connection

    from taskcontrol.models import TaskLog

    fields = [field for field in TaskLog._meta.concrete_fields if not field.primary_key]
    names = [str(field.column) for field in fields]
    columns = ", ".join(names)
    example = f"COPY (SELECT {columns} FROM taskcontrol_tasklog ORDER BY id DESC LIMIT 1) TO STDOUT"  # noqa: S608 - all ours
    with connection.cursor() as cursor:
        with cursor.copy(example) as copy:
            row = b"".join(map(bytes, copy)).decode().rstrip("\n").split("\t")
        own = names.index("arguments"), names.index("batch_order")
        with cursor.copy(f"COPY taskcontrol_tasklog ({columns}) FROM STDIN") as copy:
            for start in range(0, number, CHUNK):
                lines = []
                for n in range(start, min(number, start + CHUNK)):
                    row[own[0]], row[own[1]] = f'{{"asked_at": {n}}}', str(n)
                    lines.append("\t".join(row))
                copy.write("\n".join(lines) + "\n")


CONTENDERS: dict[str, Callable[[int], None]] = {
    "copy": through_copy,
    "bulk_create": through_django,
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
