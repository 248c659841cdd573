"""Where the nemesis strikes: workers behind proxies of their own, beat, a dispatcher, servers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connections

from tests.faults.proxy import Proxy
from tests.lab import LAB
from tests.servers.beat import Beat
from tests.servers.databases import database_url
from tests.servers.environment import site_environment
from tests.servers.postgres import Postgres
from tests.servers.process import Process
from tests.servers.redis import Redis
from tests.servers.worker import QUICK, Worker
from tests.waiting import eventually

T = TypeVar("T")

#: Times of the processes of a scene, in seconds: a scenario would only wait for longer ones.
HASTY = {
    **QUICK,
    "HEARTBEAT_INTERVAL": 0.5,
    "WORKER_LOST_AFTER": 4.0,
    "RESEND_AFTER": 2.0,
    # Not what is tested here; by default a task fails that is lost for the fourth time.
    "LOST_LIMIT": 1000,
}
#: Seconds between two ticks of beat.
TICKS = dict.fromkeys(("dispatch", "retry-failed", "resend", "rescue"), 1.0)


class Machine:
    """A worker that reaches both servers through proxies of its own."""

    def __init__(
        self,
        name: str,
        broker: Redis,
        database: Postgres,
        conf: Mapping[str, Any],
        **how: Any,
    ) -> None:
        self.name = name
        home = LAB / name
        socket = f".s.PGSQL.{database.port}"
        self.to_broker = Proxy(home / "broker.sock", broker.socket)
        self.to_database = Proxy(home / socket, Path(database.host) / socket)
        address = {**connections["default"].settings_dict, "HOST": str(home)}
        env = {
            "DATABASE_URL": database_url(address),
            "BROKER_URL": f"redis+socket://{home / 'broker.sock'}",
            "REDIS_URL": f"unix://{home / 'broker.sock'}",
            **how.pop("env", {}),
        }
        self.worker = Worker(conf=conf, env=env, **how)

    def __enter__(self) -> Machine:
        self.to_broker.start()
        self.to_database.start()
        self.worker.launch()
        return self

    def __exit__(self, *error: object) -> None:
        self.heal()
        self.worker.process.kill()
        self.to_broker.stop()
        self.to_database.stop()
        # So that nobody counts on its slots.
        patiently(self.worker.clear_away)

    def heal(self) -> None:
        """Let everything pass."""
        self.to_broker.heal()
        self.to_database.heal()


class Dispatcher:
    """A process that makes passes and sweeps, and runs nothing."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.faults.dispatching"]
        env = {**site_environment(), "TASKCONTROL_TEST_CONF": json.dumps(conf)}
        self.process = Process(command, log=LAB / "dispatching.log", env=env)

    def __enter__(self) -> Dispatcher:
        self.process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()


class Scene:
    """Everything that can be broken; in order when its block begins, and gone after it."""

    def __init__(
        self,
        broker: Redis,
        database: Postgres,
        *,
        machines: int = 2,
        concurrency: int = 4,
        conf: Mapping[str, Any] = HASTY,
        more: bool = True,
    ) -> None:
        self.broker, self.database = broker, database
        self.machines = [
            Machine(f"m{number}", broker, database, conf, concurrency=concurrency)
            for number in range(machines)
        ]
        given = {"TASKCONTROL_TEST_CONF": json.dumps(conf)}
        self.beat = Beat(conf=TICKS, env=given) if more else None
        self.dispatcher = Dispatcher(conf) if more else None
        self._stack = ExitStack()

    def __enter__(self) -> Scene:
        others = [one for one in (self.beat, self.dispatcher) if one is not None]
        try:
            for one in (*self.machines, *others):
                self._stack.enter_context(one)
            for machine in self.machines:
                worker = machine.worker
                eventually(worker.ready, timeout=60, every=0.1, why=worker.process.tail)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.put_in_order()
        self._stack.close()

    def put_in_order(self) -> None:
        """Start, thaw and heal what is not as it was."""
        if self.broker.process.running:
            self.broker.thaw()
        self.broker.start()
        self.database.start()
        for machine in self.machines:
            machine.heal()
        self.revive()

    def is_up(self) -> bool:
        """Return whether each worker counts as live."""
        return all(patiently(machine.worker.row) is not None for machine in self.machines)

    def revive(self) -> list[tuple[str, str]]:
        """Start what is not there, as a supervisor does; return what had ended, and how."""
        found = {machine.name: machine.worker.process for machine in self.machines}
        if self.beat is not None:
            found["beat"] = self.beat.process
        if self.dispatcher is not None:
            found["dispatcher"] = self.dispatcher.process
        ended = {name: process for name, process in found.items() if not process.running}
        how = [(name, f"{one.wait()}:\n{one.tail(300)}") for name, one in ended.items()]
        for process in ended.values():
            process.start()
        return how


def patiently(call: Callable[[], T], timeout: float = 20) -> T:
    """Return what ``call`` returns, which is made again while the database is away."""
    until = time.monotonic() + timeout
    while True:
        try:
            return call()
        except (OperationalError, InterfaceError):
            if time.monotonic() > until:
                raise
            connections["default"].close()
            time.sleep(0.1)
