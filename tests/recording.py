"""The record: what ran when, in which process, written by bodies and read by tests."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskcontrol.context import current_task

STARTED, ENDED = "started", "ended"


def record(what: str, **more: Any) -> None:
    """Append one line; a single write, so that lines of many processes do not mix."""
    path = os.environ.get("TASKCONTROL_TEST_RECORD")
    if not path:
        return
    task = current_task()
    line = {
        "what": what,
        "task": getattr(task, "id", None),
        "attempt": getattr(task, "attempt", None),
        "pid": os.getpid(),
        # One clock for every process of the machine, which no one sets.
        "at": time.clock_gettime(time.CLOCK_MONOTONIC),
        **more,
    }
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Record:
    """The lines of a file, with the questions that tests ask."""

    path: Path

    def clear(self) -> None:
        """Forget every line."""
        self.path.unlink(missing_ok=True)

    def lines(self, what: str | None = None, **wanted: Any) -> list[dict[str, Any]]:
        """Return the lines in order, all or those that say ``what`` and ``wanted``."""
        if not self.path.exists():
            return []
        # What stands behind the last newline is still being written.
        whole = self.path.read_text().rpartition("\n")[0]
        lines = map(json.loads, whole.splitlines())
        wanted |= {"what": what} if what else {}
        return [line for line in lines if wanted.items() <= line.items()]

    def starts(self) -> Counter[tuple[int, int]]:
        """Return how often the body of each (task, attempt) began: once, P3 says."""
        return Counter((line["task"], line["attempt"]) for line in self.lines(STARTED))

    def most_at_once(self, **wanted: Any) -> int:
        """Return how many bodies ran at the same time at most; a killed one runs on."""
        running = most = 0
        lines = [line for line in self.lines(**wanted) if line["what"] in {STARTED, ENDED}]
        for line in sorted(lines, key=lambda line: (line["at"], line["what"] == STARTED)):
            running += 1 if line["what"] == STARTED else -1
            most = max(most, running)
        return most
