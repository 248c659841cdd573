"""The processes of a soak: with a site's own times, or behind proxies where they are struck."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from taskcontrol.conf import Conf
from tests.servers.beat import Beat
from tests.servers.postgres import Postgres
from tests.servers.process import Process
from tests.servers.redis import Redis
from tests.servers.worker import QUICK, Worker
from tests.waiting import eventually

WORKERS, CHILDREN = 2, 2
#: Seconds between two looks for what is too old to be kept: a site's are an hour apart.
PRUNED_EVERY = 20.0


class Cast:
    """Who takes part: processes by name, and a nemesis if there is one."""

    def __init__(self, processes: dict[str, Process], nemesis: Any = None) -> None:
        self.processes, self.nemesis = processes, nemesis

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs at the moment."""
        return {name: one.pid for name, one in self.processes.items() if one.running}


@contextmanager
def quiet(database: Postgres, broker: Redis, conf: dict[str, Any]) -> Iterator[Cast]:
    """Start workers and beat as a site does."""
    usual = {name: getattr(Conf, name) for name in QUICK}
    workers = [Worker(concurrency=CHILDREN, conf={**usual, **conf}) for _ in range(WORKERS)]
    beat = Beat(conf={"prune": PRUNED_EVERY}, env=_given(conf))
    with ExitStack() as stack:
        for worker in workers:
            stack.enter_context(worker)
        stack.enter_context(beat)
        yield Cast(_named(workers, beat, database, broker))


@contextmanager
def struck(
    database: Postgres, broker: Redis, conf: dict[str, Any], seed: int
) -> Iterator[Cast]:
    """Start the scene of the fault laboratory, with its nemesis."""
    from tests.faults.nemesis import Nemesis
    from tests.faults.scene import HASTY, TICKS, Scene

    TICKS["prune"] = PRUNED_EVERY
    scene = Scene(
        broker, database, machines=WORKERS, concurrency=CHILDREN, conf={**HASTY, **conf}
    )
    with scene, Nemesis(scene, seed) as nemesis:
        workers = [machine.worker for machine in scene.machines]
        yield Cast(_named(workers, scene.beat, database, broker), nemesis)


def _given(conf: dict[str, Any]) -> dict[str, str]:
    return {"TASKCONTROL_TEST_CONF": json.dumps(conf)}


def _named(
    workers: list[Worker], beat: Beat | None, database: Postgres, broker: Redis
) -> dict[str, Process]:
    found = {f"worker {n + 1}": worker.process for n, worker in enumerate(workers)}
    if beat is not None:
        found["beat"] = beat.process
    if database.process is not None:
        found["postgres"] = database.process
    return {**found, "redis": broker.process}


def make_peace(cast: Cast) -> None:
    """Undo what the nemesis has done and not yet undone."""
    if cast.nemesis is not None:
        cast.nemesis.__exit__()


def calm(timeout: float) -> int:
    """Wait until nothing is left to run; return how many tasks have not ended even then."""
    from taskcontrol.models import TaskLog

    def ended() -> bool:
        return not TaskLog.objects.unended().exists()

    try:
        eventually(ended, timeout=timeout, every=0.5)
    except AssertionError:
        return TaskLog.objects.unended().count()
    return 0
