"""The stage: servers of our own on loopback, and a worker of one contender on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bodies import RECORD
from bench.usage import cpu_seconds, memory_mb
from tests.servers.ports import answers, free_port
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

ROOT = Path(__file__).resolve().parent.parent
WORKERS = {
    "plain": ["celery", "-A", "bench.plain", "worker", "-c", "2", "-l", "WARNING"],
    "taskcontrol": [
        *["celery", "-A", "project", "worker", "-c", "2", "-l", "WARNING"],
        *["-Q", "default", "--without-gossip", "--without-mingle"],
    ],
}
WEB = [
    *["-m", "uvicorn", "project.asgi:application", "--log-level", "warning"],
    *["--timeout-graceful-shutdown", "1"],
]


class Stage:
    """PostgreSQL with fsync and synchronous_commit on, Redis without persistence."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = directory / "record"
        self.postgres = Postgres(directory / "postgres", fsync=True)
        self.redis = Redis(directory / "redis.sock")
        self.worker: subprocess.Popen[bytes] | None = None
        self.web: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def __enter__(self) -> Stage:
        self.postgres.start()
        self.redis.start()
        self.run(sys.executable, "manage.py", "migrate", "--verbosity", "0")
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop_worker()
        self.stop_web()
        self.redis.stop()
        self.postgres.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of the contenders are told."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "bench.settings",
            "DATABASE_URL": (
                f"postgres://postgres@127.0.0.1:{self.postgres.port}/postgres"
            ),
            "BROKER_URL": self.redis.broker_url,
            "REDIS_URL": self.redis.url,
            "TASKCONTROL_BENCH_RECORD": str(self.record),
            "TASKCONTROL_DATA_DIR": str(self.directory / "data"),
        }

    def run(self, *command: str, **more: str) -> str:
        """Run a command to its end and return what it printed; ``more``: its environment."""
        environment = {**self.environment, **more}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE
        )
        return done.stdout.decode()

    def feed(self, contender: str, number: int, gap: float = 0.0) -> dict[str, Any]:
        """Enqueue ``number`` tasks and return what it took."""
        command = [sys.executable, "-m", "bench.feeding", contender, str(number), str(gap)]
        return dict(json.loads(self.run(*command)))

    def bulk(self, contender: str, number: int, **more: str) -> dict[str, Any]:
        """Store ``number`` tasks at once and return what it took."""
        command = [sys.executable, "-m", "bench.bulk", contender, str(number)]
        return dict(json.loads(self.run(*command, **more)))

    def new_sqlite(self) -> dict[str, str]:
        """Return the environment of a process whose database is an empty SQLite file."""
        file = self.directory / "bench.sqlite3"
        for one in self.directory.glob(f"{file.name}*"):
            one.unlink()
        environment = {"DATABASE_URL": f"sqlite:///{file}"}
        self.run(sys.executable, "manage.py", "migrate", "--verbosity", "0", **environment)
        return environment

    def start_web(self) -> None:
        """Start one process of the site's web server."""
        with (self.directory / "web.log").open("ab") as log:
            self.web = subprocess.Popen(
                [sys.executable, *WEB, "--port", str(self.port)],
                cwd=ROOT,
                env={**self.environment, "ALLOWED_HOSTS": "127.0.0.1"},
                stdout=log,
                stderr=log,
            )
        while not answers(("127.0.0.1", self.port)):
            time.sleep(0.05)

    def watch(self, pages: int, number: int, gap: float) -> dict[str, float]:
        """Change a task that so many pages watch; return how late they heard of it."""
        url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "bench.watching", url, str(pages), str(number)]
        return dict(json.loads(self.run(*command, str(gap))))

    def stop_web(self) -> None:
        """End the web server."""
        if self.web is not None:
            self.web.send_signal(signal.SIGTERM)
            self.web.wait(60)
            self.web = None

    def start_worker(self, contender: str) -> None:
        """Start the worker of a contender."""
        with (self.directory / f"{contender}.log").open("ab") as log:
            self.worker = subprocess.Popen(
                WORKERS[contender], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )

    def stop_worker(self) -> None:
        """End the worker and forget what is left of its work."""
        if self.worker is not None:
            self.worker.send_signal(signal.SIGTERM)
            self.worker.wait(60)
            self.worker = None

    def clear(self) -> None:
        """Empty the broker, the ledger and the record."""
        self.redis.flush()
        self.record.unlink(missing_ok=True)
        import psycopg

        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute("TRUNCATE taskcontrol_tasklog, taskcontrol_taskevent")

    def analyze(self) -> None:
        """Do what autovacuum does within a minute of a change."""
        import psycopg

        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE taskcontrol_tasklog")

    def done(self) -> int:
        """Return how many bodies have run."""
        return self.record.stat().st_size // RECORD.size if self.record.exists() else 0

    def wait_for(self, number: int, timeout: float = 300) -> None:
        """Wait until ``number`` bodies have run."""
        end = time.monotonic() + timeout
        while self.done() < number:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.done()} of {number} bodies ran in {timeout} s")
            time.sleep(0.005)

    def records(self) -> list[tuple[float, float]]:
        """Return (asked, began) of each body."""
        return list(RECORD.iter_unpack(self.record.read_bytes()))

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far of worker, Redis and PostgreSQL."""
        worker = [self.worker.pid] if self.worker else []
        return {
            "worker": cpu_seconds(worker),
            "web": cpu_seconds([self.web.pid] if self.web else []),
            "redis": cpu_seconds([_pid(self.redis)]),
            "postgres": cpu_seconds([_pid(self.postgres)]),
        }

    def memory(self) -> list[float]:
        """Return the megabytes of the worker's processes."""
        return memory_mb([self.worker.pid]) if self.worker else []


def _pid(server: Postgres | Redis) -> int:
    if server.process is None:
        raise RuntimeError("the server was not started")
    return server.process.pid


def make_directory() -> Path:
    """Return a directory that the servers' user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="taskcontrol-bench-"))
    directory.chmod(0o755)
    return directory
