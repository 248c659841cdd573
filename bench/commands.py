"""What contenders are told, and commands of theirs that end: each in its own environment."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from bench.ground import Ground
from bench.machine import ROOT
from bench.peers import OURS, Peer, peers

#: More variables of a process.
Env = Mapping[str, str] | None

#: Lines of a log that are shown where something failed.
TAIL = 20


class Commands(Ground):
    """The ground, and those who stand on it."""

    def __init__(self, directory: Path, pythons: Mapping[str, Path]) -> None:
        super().__init__(directory)
        self.record = directory / "record"
        #: What commands say on their error output.
        self.complaints = directory / "commands.log"
        self.pythons = dict(pythons)
        known = peers()
        self.peers = {name: known[name] for name in self.pythons}
        self.ours = self.peers[OURS]

    def environment(self, peer: Peer) -> dict[str, str]:
        """Return the variables of the processes of a contender."""
        binaries = self.pythons[peer.name].parent
        return {
            **os.environ,
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "DATABASE_URL": self.database_url(peer.name),
            "BROKER_URL": self.redis.broker_url,
            "REDIS_URL": self.redis.url,
            "TASKCONTROL_BENCH_RECORD": str(self.record),
            "TASKCONTROL_DATA_DIR": str(self.directory / "data"),
            **peer.environment,
        }

    def new_sqlite(self) -> dict[str, str]:
        """Return the environment of a process whose database is an empty SQLite file."""
        file = self.directory / "bench.sqlite3"
        for one in self.directory.glob(f"{file.name}*"):
            one.unlink()
        environment = {"DATABASE_URL": f"sqlite:///{file}"}
        self.run(
            sys.executable, "manage.py", "migrate", "--verbosity", "0", env=environment
        )
        return environment

    def new_mariadb(self) -> dict[str, str]:
        """Return the environment of a process whose database is an empty one on MariaDB."""
        environment = {"DATABASE_URL": self.empty_mariadb()}
        self.run(
            sys.executable, "manage.py", "migrate", "--verbosity", "0", env=environment
        )
        return environment

    def run(self, *command: str, peer: Peer | None = None, env: Env = None) -> str:
        """Run a command of a contender, ours if left out; return what it printed."""
        return self.begin(*command, peer=peer, env=env)()

    def begin(
        self, *command: str, peer: Peer | None = None, env: Env = None
    ) -> Callable[[], str]:
        """Start a command; the result waits for its end and returns what it printed."""
        environment = {**self.environment(peer or self.ours), **(env or {})}
        program = shutil.which(command[0], path=environment["PATH"]) or command[0]
        with self.complaints.open("ab") as errors:
            process = Popen(
                [program, *command[1:]],
                cwd=ROOT,
                env=environment,
                stdout=PIPE,
                stderr=errors,
            )

        def end() -> str:
            said: bytes = process.communicate()[0]
            if process.returncode:
                told = "\n".join(self.said().splitlines()[-TAIL:])
                raise RuntimeError(
                    f"{shlex.join(command)} ended with {process.returncode}:\n{told}"
                )
            return said.decode()

        return end

    def python(self, module: str, *given: object, env: Env = None) -> dict[str, Any]:
        """Run a module in a process of ours, and return the JSON that it printed last."""
        printed = self.run(sys.executable, "-m", module, *map(str, given), env=env)
        return dict(json.loads(printed.splitlines()[-1]))

    def feed(
        self,
        peer: Peer,
        number: int,
        gap: float = 0.0,
        *,
        many: bool = False,
        env: Env = None,
    ) -> dict[str, Any]:
        """Let a contender ask for ``number`` tasks; return what it took.

        ``gap``: seconds between two; ``many``: at once, where it can.
        """
        asked = [peer.module, str(number), str(gap), *(["many"] if many else [])]
        printed = self.run("python", "-m", "bench.feeding", *asked, peer=peer, env=env)
        return dict(json.loads(printed.splitlines()[-1]))

    def said(self) -> str:
        """Return what all processes that run or ran have said, but for the servers."""
        files = [self.complaints, *(self._log(peer) for peer in self.peers.values())]
        return "".join(one.read_text(errors="replace") for one in files if one.exists())

    def last_words(self, name: str) -> str:
        """Return the end of what the workers of a contender, or else ours, have said."""
        log = self._log(self.peers.get(name, self.ours))
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(lines[-TAIL:])

    def _log(self, peer: Peer) -> Path:
        return self.directory / f"{peer.name}.log"
