"""A real Celery beat of the site, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from itertools import count

from tests.lab import LAB
from tests.servers.environment import site_environment
from tests.servers.process import Process

_number = count(1)


class Beat:
    """One beat with a schedule file of its own, or with the schedules of the database.

    ``conf``: seconds between two, by entry.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        conf: Mapping[str, float] | None = None,
        scheduler: str = "celery.beat:PersistentScheduler",
    ) -> None:
        name = f"beat-{os.getpid()}-{next(_number)}"
        command = [
            *(sys.executable, "-m", "celery", "-A", "project", "beat", "-l", "INFO"),
            *("--scheduler", scheduler),
            *("--schedule", str(LAB / f"{name}.schedule"), "--pidfile", ""),
        ]
        given = {"TASKCONTROL_TEST_BEAT": json.dumps(conf or {})}
        environment = {**site_environment(), **given, **(env or {})}
        self.process = Process(command, log=LAB / f"{name}.log", env=environment)

    def start(self) -> Beat:
        """Start it; what it sends is its sign of life."""
        self.process.start()
        return self

    def stop(self) -> int:
        """End it in order."""
        return self.process.stop()

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()

    def __enter__(self) -> Beat:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.process.kill()
