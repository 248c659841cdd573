"""One look at a soak: memory of every process, size of the tables, how late tasks begin."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from django.db import DatabaseError, connection

from bench.bodies import RECORD
from bench.workloads import percentile

Sample = dict[str, float]

#: Of the table of tasks: bytes with indexes, of it indexes, rows, dead rows; of all tables.
SIZES = """
SELECT pg_total_relation_size(relid), pg_indexes_size(relid),
    (SELECT COUNT(*) FROM taskcontrol_tasklog), n_dead_tup,
    pg_database_size(current_database()),
    (SELECT SUM(n_dead_tup) FROM pg_stat_user_tables)
FROM pg_stat_user_tables WHERE relname = 'taskcontrol_tasklog'
"""
NAMES = ("table_mb", "indexes_mb", "rows", "dead_rows", "database_mb", "all_dead_rows")
MB = 2**20


class Sampler:
    """Looks, and remembers what it saw last."""

    def __init__(self, record: Path, broker: Any) -> None:
        self.record, self.broker = record, broker
        self._read = 0

    def look(self, seconds: float, pids: Mapping[str, int], asked: int) -> Sample:
        """Return what there is now, and how late what began since the last look was."""
        found: Sample = {"seconds": round(seconds, 1), "asked": asked}
        for name, pid in pids.items():
            found |= memory(name, pid)
        with suppress(DatabaseError):
            found |= sizes()
        with suppress(Exception), self.broker.client(timeout=1) as client:
            found["redis_used_mb"] = client.info("memory")["used_memory"] / MB
        return {name: round(value, 3) for name, value in {**found, **self.late()}.items()}

    def late(self) -> Sample:
        """Return the latency of the probes that began since the last look."""
        if not self.record.exists():
            return {}
        with self.record.open("rb") as file:
            file.seek(self._read)
            read = file.read()
        read = read[: len(read) // RECORD.size * RECORD.size]
        self._read += len(read)
        waits = sorted(began - asked for asked, began in RECORD.iter_unpack(read) if asked)
        if not waits:
            return {"probes": 0}
        return {
            "probes": len(waits),
            "p50_ms": 1000 * percentile(waits, 0.5),
            "p99_ms": 1000 * percentile(waits, 0.99),
        }


def memory(name: str, pid: int) -> Sample:
    """Return the megabytes of a process, and of the largest and of all of its children."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        below = [own_memory(name, child) for child in process.children(recursive=True)]
        own = own_memory(name, process)
        found = {f"{name} pid": float(pid), f"{name} mb": own}
        return {**found, f"{name} child mb": max(below)} if below else found
    return {}


def own_memory(name: str, process: psutil.Process) -> float:
    """Return the megabytes of a process; of PostgreSQL without what all of it share."""
    if name == "postgres":
        return float(process.memory_full_info().uss / MB)
    return float(process.memory_info().rss / MB)


def sizes() -> Sample:
    """Return the size of the table of tasks, and what is dead in it."""
    with connection.cursor() as cursor:
        cursor.execute(SIZES)
        row = cursor.fetchone()
    found = {name: float(value or 0) for name, value in zip(NAMES, row, strict=True)}
    for name in ("table_mb", "indexes_mb", "database_mb"):
        found[name] /= MB
    return found


def write(samples: list[Sample], file: Path) -> None:
    """Write all samples as CSV."""
    names = list(dict.fromkeys(name for one in samples for name in one))
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, names)
        writer.writeheader()
        writer.writerows(samples)
