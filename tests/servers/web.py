"""The site as a web server serves it, in a process of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from itertools import count
from typing import Any
from urllib.request import urlopen

import psutil
from django.db import connections

from tests.lab import LAB
from tests.servers.environment import site_environment
from tests.servers.ports import answers, free_port
from tests.servers.process import Process
from tests.waiting import eventually

_number = count(1)


class Web:
    """One server on a port that it keeps over restarts. ``conf``: keys of TASKCONTROL."""

    def __init__(
        self,
        *,
        asgi: bool = True,
        env: Mapping[str, str] | None = None,
        conf: Mapping[str, Any] | None = None,
    ) -> None:
        name = f"web-{os.getpid()}-{next(_number)}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", *(self._uvicorn() if asgi else self._runserver())]
        given = {"TASKCONTROL_TEST_CONF": json.dumps(conf or {})}
        self.process = Process(
            command,
            log=LAB / f"{name}.log",
            env={**site_environment(), **given, **(env or {})},
        )

    def _uvicorn(self) -> list[str]:
        options = ["--log-level", "warning", "--timeout-graceful-shutdown", "2"]
        return ["uvicorn", "tests.site:application", "--port", str(self.port), *options]

    def _runserver(self) -> list[str]:
        """Django's own server, since uvicorn's bridge to WSGI breaks cookies."""
        options = ["--noreload", "--insecure", "--skip-checks"]
        return ["django", "runserver", *options, f"127.0.0.1:{self.port}"]

    def start(self) -> Web:
        """Start it and wait until it answers."""
        self.process.start()
        eventually(self.ready, timeout=60, every=0.05, why=self.process.tail)
        return self

    def ready(self) -> bool:
        """Return whether it answers a page."""
        assert self.process.running, f"the server ended:\n{self.process.tail()}"
        if not answers(("127.0.0.1", self.port)):
            return False
        with urlopen(f"{self.url}/admin/login/", timeout=20) as page:
            return bool(page.status == 200)

    def restart(self) -> None:
        """Kill it as a crash does, and start it on the same port."""
        self.process.kill()
        self.start()

    def connections(self) -> int:
        """Return how often it has the database file of SQLite open."""
        name = str(connections["default"].settings_dict["NAME"])
        files = psutil.Process(self.process.pid).open_files()
        return sum(one.path == name for one in files)

    def __enter__(self) -> Web:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.process.kill()
