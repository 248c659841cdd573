"""The stage: servers of our own on loopback, and the processes of one contender on it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import TimeoutExpired

from bench.bodies import RECORD
from bench.commands import Commands, Env
from bench.peers import OURS, Peer
from bench.usage import busy_seconds, cpu_seconds, memory_mb
from tests.servers.ports import answers, free_port
from tests.servers.process import Process

WEB = [
    *["-m", "uvicorn", "project.asgi:application", "--log-level", "warning"],
    *["--timeout-graceful-shutdown", "1"],
]


class Stage(Commands):
    """The ground with contenders on it; at most one of them has processes at a time."""

    def __init__(self, directory: Path, pythons: Mapping[str, Path] | None = None) -> None:
        """``pythons``: the contenders by name, each with the Python that runs it."""
        super().__init__(directory, pythons or {OURS: Path(sys.executable)})
        self.workers: list[Process] = []
        self.beat: Process | None = None
        self.web: Process | None = None
        self.port = free_port()

    def __enter__(self) -> Stage:
        self.begin_servers()
        for peer in self.peers.values():
            if peer.setup:
                self.sql(f'CREATE DATABASE "{peer.name}"', database="postgres")
            for command in peer.setup:
                self.run(*shlex.split(command), peer=peer)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        self.stop_web()
        self.end_servers()

    # Processes that run on

    def start(self, peer: Peer, *options: str, env: Env = None) -> None:
        """Start the workers of a contender; ``options`` are added to their commands."""
        for command in peer.worker:
            words = [*shlex.split(command), *options]
            self.workers.append(self._start(peer, words, env=env))

    def start_one(self, peer: Peer, command: str, env: Env = None) -> None:
        """Start a worker of a contender by a command of its own."""
        self.workers.append(self._start(peer, shlex.split(command), env=env))

    def start_beat(self, peer: Peer) -> None:
        """Start what sends the periodic tasks of a contender, if it has such a thing."""
        if peer.beat:
            command = peer.beat.format(directory=self.directory)
            self.beat = self._start(peer, shlex.split(command))

    def stop(self) -> None:
        """End the workers and beat, in order where that is possible."""
        beat, self.beat = self.beat, None
        for process in (*([beat] if beat else []), *self.workers):
            process.send(15)
        for process in (*([beat] if beat else []), *self.workers):
            try:
                process.wait(30)
            except TimeoutExpired:
                process.kill()
        self.workers = []

    def kill(self) -> None:
        """End the workers at once, whatever runs."""
        for process in self.workers:
            process.kill()
        self.workers = []

    def start_web(self) -> None:
        """Start one process of the site's web server."""
        command = [sys.executable, *WEB, "--port", str(self.port)]
        self.web = self._start(self.ours, command, env={"ALLOWED_HOSTS": "127.0.0.1"})
        while not answers(("127.0.0.1", self.port)):
            time.sleep(0.05)

    def stop_web(self) -> None:
        """End the web server."""
        if self.web is not None:
            self.web.stop(timeout=60)
            self.web = None

    def _start(self, peer: Peer, command: list[str], env: Env = None) -> Process:
        environment = {**self.environment(peer), **(env or {})}
        program = shutil.which(command[0], path=environment["PATH"]) or command[0]
        process = Process([program, *command[1:]], log=self._log(peer), env=environment)
        process.start()
        return process

    # What is left from before, and what has happened since

    def clear(self, peer: Peer | None = None, database: str = "") -> None:
        """Empty the broker, the record and the tables of a contender, ours if left out."""
        peer = peer or self.ours
        self.redis.flush()
        self.record.unlink(missing_ok=True)
        if peer.tables:
            tables = ", ".join(peer.tables)
            self.sql(f"TRUNCATE {tables} CASCADE", database=database or peer.name)

    def analyze(self, peer: Peer) -> None:
        """Do what autovacuum does within a minute of a change."""
        statements = [f"VACUUM ANALYZE {table}" for table in peer.tables]
        if statements:
            self.sql(*statements, database=peer.name)

    def done(self) -> int:
        """Return how many bodies have run."""
        return self.record.stat().st_size // RECORD.size if self.record.exists() else 0

    def wait_for(self, number: int, timeout: float = 600) -> None:
        """Wait until ``number`` bodies have run; ``timeout``: seconds without any news."""
        seen, end = -1, 0.0
        while (done := self.done()) < number:
            if done != seen:
                seen, end = done, time.monotonic() + timeout
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{done} of {number} bodies ran; then none in {timeout} s"
                )
            time.sleep(0.005)

    def wait_until_written(self, peer: Peer, number: int, timeout: float = 120) -> None:
        """Wait until a contender has written down the ends of so many tasks."""
        end = time.monotonic() + timeout
        while (ended := self.sql(peer.ended, database=peer.name)[0][0]) < number:
            if time.monotonic() > end:
                raise TimeoutError(f"{ended} of {number} ends were written in {timeout} s")
            time.sleep(0.05)

    def records(self) -> list[tuple[float, float]]:
        """Return (asked, began) of each body."""
        return list(RECORD.iter_unpack(self.record.read_bytes()))

    @contextmanager
    def meter(self) -> Iterator[dict[str, float]]:
        """Fill the dict with the seconds of the block and the CPU seconds that it took.

        *foreign* is how many cores other work on the machine took meanwhile.
        """
        spent: dict[str, float] = {}
        cpu, busy, began = self.cpu(), busy_seconds(), time.perf_counter()
        yield spent
        spent["seconds"] = time.perf_counter() - began
        busy, after = busy_seconds() - busy, self.cpu()
        parts = {name: after[name] - cpu[name] for name in after}
        spent["foreign"] = max(0.0, (busy - sum(parts.values())) / spent["seconds"])
        del parts["driver"]
        spent.update(parts, cpu=sum(parts.values()))

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far of each part, of this process too."""
        parts: dict[str, Sequence[Process | None]] = {
            "worker": self.workers,
            "beat": [self.beat] if self.beat else [],
            "redis": [self.redis.process],
            "postgres": [self.postgres.process],
        }
        found = {
            name: cpu_seconds(one.pid for one in processes if one)
            for name, processes in parts.items()
        }
        mine = os.times()
        # Those that it has waited for are the ones that asked for tasks.
        waited = mine.children_user + mine.children_system
        return {**found, "driver": mine.user + mine.system + waited}

    def memory(self) -> list[float]:
        """Return the megabytes of the workers' processes, parents first."""
        return memory_mb(one.pid for one in self.workers)


def make_directory() -> Path:
    """Return a directory that the servers' user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="taskcontrol-bench-"))
    directory.chmod(0o755)
    return directory
