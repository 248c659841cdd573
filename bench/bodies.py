"""The bodies that run: the one that every contender runs, and those of single workloads."""

from __future__ import annotations

import os
import struct
import time
from functools import cache

#: When a task was asked for, and when its body began.
RECORD = struct.Struct("dd")
#: Which kind of task it was, when its body began and ended.
SPELL = struct.Struct("ddd")
now = time.time  # noqa: TID251 - several processes compare


def noop(asked_at: float = 0.0) -> None:
    """Append one record of fixed size and return."""
    os.write(_file(os.environ["TASKCONTROL_BENCH_RECORD"]), RECORD.pack(asked_at, now()))


def hold() -> None:
    """Stay until the process is ended."""
    while True:
        time.sleep(60)


def spell(kind: int) -> None:
    """Run for a few milliseconds and say when."""
    began = now()
    time.sleep(0.003)
    record = SPELL.pack(kind, began, now())
    os.write(_file(f"{os.environ['TASKCONTROL_BENCH_RECORD']}.spells"), record)


@cache
def _file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
