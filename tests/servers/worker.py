"""A real Celery worker of the site, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import psutil
from celery import current_app
from django.db import transaction
from redis import RedisError

from taskcontrol.broker import forget_connections
from taskcontrol.models import Worker as WorkerRow
from tests.lab import LAB
from tests.servers.environment import site_environment
from tests.servers.process import Process, wait_until_dead
from tests.waiting import eventually

_number = count(1)

#: A worker's times in tests, in seconds: short, and long enough for a machine under load.
QUICK = {
    "HEARTBEAT_INTERVAL": 1.0,
    "WORKER_LOST_AFTER": 6.0,
    "RESEND_AFTER": 3.0,
    "CANCEL_GRACE": 1.5,
}


class Worker:
    """One worker; ready when its row exists and it answers. ``conf``: keys of TASKCONTROL."""

    def __init__(
        self,
        queues: Sequence[str] = ("short", "default", "long"),
        *,
        concurrency: int = 2,
        pool: str = "prefork",
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        conf: Mapping[str, Any] | None = None,
    ) -> None:
        name = f"test-{os.getpid()}-{next(_number)}"
        self.hostname = f"{name}@lab"
        command = [
            *(sys.executable, "-m", "celery", "-A", "project", "worker"),
            *("-n", self.hostname, "-Q", ",".join(queues), "-c", str(concurrency)),
            *("-P", pool, "-l", "INFO", "--without-gossip", "--without-mingle", *flags),
        ]
        given = {"TASKCONTROL_TEST_CONF": json.dumps({**QUICK, **(conf or {})})}
        environment = {**site_environment(), **given, **(env or {})}
        self.process = Process(command, log=LAB / f"{name}.log", env=environment)

    def start(self) -> Worker:
        """Start it and wait until it is ready."""
        self.launch()
        eventually(self.ready, timeout=60, every=0.1, why=self.process.tail)
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        self.process.start()

    def ready(self) -> bool:
        """Return whether it has its row and answers."""
        assert self.process.running, f"the worker ended:\n{self.process.tail()}"
        return self.row() is not None and self.answers()

    def answers(self) -> bool:
        """Return whether its event loop takes commands."""
        for _ in range(2):
            with suppress(OSError, RedisError):  # the broker may be away
                return bool(current_app.control.ping([self.hostname], timeout=1, limit=1))
            # Connections that outlived a restart of the broker fail once.
            forget_connections()
        return False

    def row(self) -> WorkerRow | None:
        """Return the row of this boot while it counts as live."""
        found: WorkerRow | None = WorkerRow.objects.filter(
            hostname=self.hostname, pid=self.process.pid, left_at=None, lost_at=None
        ).first()
        return found

    def children(self) -> list[psutil.Process]:
        """Return its pool processes, oldest first."""
        parent = psutil.Process(self.process.pid)
        return sorted(parent.children(), key=lambda child: (child.create_time(), child.pid))

    def freeze(self, *, main: bool = True, children: bool = False) -> list[psutil.Process]:
        """Stop the main process, its children or both, as a paused machine; return them.

        Never within a write: on SQLite the only writer would keep all others out.
        """
        processes = [psutil.Process(self.process.pid)] if main else []
        processes += self.children() if children else []
        with transaction.atomic():
            for process in processes:
                process.suspend()
            eventually(lambda: all(map(_is_stopped, processes)), every=0.001)
        return processes

    def thaw(self) -> None:
        """Let the main process go on."""
        self.process.thaw()

    def stop(self, timeout: float = 30) -> int:
        """Warm shutdown: it finishes what runs and takes nothing new."""
        return self.process.stop(signal.SIGTERM, timeout)

    def stop_cold(self, timeout: float = 30) -> int:
        """Cold shutdown: it ends at once and what runs is left."""
        return self.process.stop(signal.SIGQUIT, timeout)

    def kill(self) -> None:
        """SIGKILL to the main process alone; the kernel takes its children along."""
        below = self.process.descendants()
        self.process.send(signal.SIGKILL)
        self.process.wait()
        wait_until_dead(below)

    def __enter__(self) -> Worker:
        return self.start()

    def clear_away(self) -> None:
        """End it with all it runs, and let nobody count on its slots."""
        self.process.kill()
        WorkerRow.objects.filter(hostname=self.hostname).delete()

    def __exit__(self, *error: object) -> None:
        self.clear_away()


def _is_stopped(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)
