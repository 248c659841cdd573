"""A broker of our own, from the program that ``up`` would start."""

from __future__ import annotations

from pathlib import Path

import redis

from taskcontrol.standalone.broker import find_binary
from tests.servers.ports import free_port
from tests.servers.process import Process
from tests.waiting import eventually


class Redis:
    """One server on a Unix socket, or on a free port if ``tcp``.

    It forgets everything when it ends, unless it is told to keep it.
    """

    def __init__(self, socket: Path, *, tcp: bool = False) -> None:
        self.socket = socket
        self.port = free_port() if tcp else 0
        #: Whether it finds again what it had, from its next start on.
        self.keeps = False
        #: What it keeps; a copy that takes this place while it is down is what it then finds.
        self.data = socket.with_suffix(".data")
        self.process = Process([], log=socket.with_suffix(".log"))

    def _command(self) -> list[str]:
        return [
            find_binary(),
            *("--port", str(self.port), "--bind", "127.0.0.1"),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "yes" if self.keeps else "no"),
            *("--daemonize", "no", "--dir", str(self.data)),
        ]

    @property
    def url(self) -> str:
        """The address as the client library takes it."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    @property
    def broker_url(self) -> str:
        """The address as Celery takes it."""
        return self.url.replace("unix://", "redis+socket://")

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.data.mkdir(exist_ok=True)
        self.process.command = self._command()
        self.process.start()
        eventually(self.ready, timeout=20, why=self.process.tail)

    def client(self, timeout: float = 5) -> redis.Redis:
        """Return a client; close it after use, or use it in a ``with``."""
        return redis.Redis.from_url(
            self.url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=None
        )

    def ready(self) -> bool:
        """Return whether it answers."""
        try:
            with self.client(timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def flush(self) -> None:
        """Forget everything, as a broker without persistence does at a restart."""
        with self.client() as client:
            client.flushall()

    def messages(self, queue: str) -> int:
        """Return how many messages wait in ``queue``."""
        with self.client() as client:
            return int(client.llen(queue))

    def stop(self) -> None:
        """Shut down in order."""
        self.process.stop()

    def kill(self) -> None:
        """End it at once; the address stays, for the next start."""
        self.process.kill()
        self.socket.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        self.process.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.process.thaw()
