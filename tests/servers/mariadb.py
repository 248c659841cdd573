"""A MariaDB of our own, where the system has its programs; there is no wheel of it."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers.missing import ServerMissing
from tests.servers.ports import answers
from tests.servers.process import Process, run
from tests.servers.users import give_to, server_user
from tests.waiting import eventually

PLACES = "/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin"


@cache
def program(name: str) -> str:
    """Return the path of a program of MariaDB."""
    found = shutil.which(name) or shutil.which(name, path=PLACES)
    if not found:
        raise ServerMissing(f"MariaDB: there is no {name}; install mariadb-server")
    return found


class Mariadb:
    """One server with its data in a directory of its own, on a Unix socket there."""

    user = "root"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "server.sock"
        self.process: Process | None = None

    def start(self) -> None:
        """Make the data directory on the first call, start, and wait until it answers."""
        if self.process is None:
            self.process = self._make()
        self.process.start()
        eventually(self.ready, timeout=60, why=self.process.tail)

    def connect(self, **options: Any) -> Any:
        """Return a connection of the driver."""
        import pymysql

        return pymysql.connect(unix_socket=str(self.socket), user=self.user, **options)

    def ready(self) -> bool:
        """Return whether it takes connections."""
        import pymysql

        if not answers(str(self.socket)):
            return False  # the driver would leave its own socket open
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Shut down in order."""
        if self.process is not None:
            self.process.stop()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        assert self.process is not None, "not started"
        self.process.kill()

    def restart(self) -> None:
        """Stop and start again on the same socket."""
        self.stop()
        self.start()

    def _make(self) -> Process:
        user = server_user()
        server, install = program("mariadbd"), program("mariadb-install-db")
        self.directory.mkdir(parents=True, exist_ok=True)
        give_to(user, self.directory)
        data = self.directory / "data"
        run(
            [
                install,
                "--no-defaults",
                f"--datadir={data}",
                "--skip-test-db",
                "--auth-root-authentication-method=normal",
            ],
            user,
        )
        command = [
            server,
            "--no-defaults",
            f"--datadir={data}",
            f"--socket={self.socket}",
            f"--pid-file={self.directory / 'server.pid'}",
            "--skip-networking",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+05:45",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M",
        ]
        return Process(command, log=self.directory.with_suffix(".log"), user=user)
