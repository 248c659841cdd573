"""Drives the dispatcher through one scene, in a process of its own: ``-m bench.scale.passes``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.scale.scenes import Scene
from bench.scale.simulated import Simulated, settle
from bench.workloads import Figures, percentile

#: Passes of those that find nothing to do.
IDLE = 30


class Clock:
    """What passes took: seconds, CPU of this process and of its database session."""

    def __init__(self) -> None:
        from bench.refereed import backend_process

        self.backend = backend_process()
        self.seconds: list[float] = []
        #: For how long each turn held the dispatcher's row.
        self.held: list[float] = []
        self.promoted: list[int] = []
        self.statements = 0
        self.python = self.postgres = 0.0

    def time(self, make_pass: Callable[[], Any]) -> None:
        """Make one pass and note it."""
        from django.db import connection

        before = sum(self.backend.cpu_times()[:2])
        cpu, began = time.process_time(), time.perf_counter()
        with connection.execute_wrapper(self._count):
            self.promoted.append(make_pass().promoted)
        self.seconds.append(time.perf_counter() - began)
        self.python += time.process_time() - cpu
        self.postgres += sum(self.backend.cpu_times()[:2]) - before

    def _count(self, execute: Any, *given: Any) -> Any:
        self.statements += 1
        return execute(*given)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Note from when to when a turn has the dispatcher's row."""
        from django.db import transaction

        dispatch: Any = import_module("taskcontrol.dispatch")
        taken = dispatch.take_turn

        def take() -> Any:
            state, since = taken(), time.perf_counter()
            transaction.on_commit(lambda: self._let_go(since))
            return state

        dispatch.take_turn = take
        try:
            yield
        finally:
            dispatch.take_turn = taken

    def _let_go(self, since: float) -> None:
        self.held.append(time.perf_counter() - since)

    def figures(self) -> Figures:
        """Return all of it, per pass and per promoted task."""
        number = len(self.seconds)
        promoted = sum(self.promoted)
        shown = {
            "promoted": promoted,
            "pass_p50_ms": 1000 * percentile(sorted(self.seconds), 0.5),
            "pass_p95_ms": 1000 * percentile(sorted(self.seconds), 0.95),
            "held_p50_ms": 1000 * percentile(sorted(self.held), 0.5),
            "held_p95_ms": 1000 * percentile(sorted(self.held), 0.95),
            "statements": self.statements / number,
            "pass_cpu_ms": 1000 * (self.python + self.postgres) / number,
        }
        if promoted:
            shown |= {
                "python_us": 1e6 * self.python / promoted,
                "postgres_us": 1e6 * self.postgres / promoted,
                "per_second": promoted / sum(self.seconds),
                "per_row_second": promoted / sum(self.held),
            }
        return shown


def measured(site: Simulated, call: Callable[[Clock], None]) -> Figures:
    """Return the figures of the passes that ``call`` makes."""
    clock = Clock()
    with clock.holding(), site.in_place_of_the_broker():
        call(clock)
    return clock.figures()


def drive(scene: Scene) -> dict[str, Figures]:
    """Measure passes that fill slots, that find none free, and that find nothing waiting."""
    from taskcontrol.dispatch import make_pass

    site = Simulated(scene)
    if scene.months:
        part(site, scene.months)
    site.build()
    fill(site)

    def busy(clock: Clock) -> None:
        for _ in range(scene.passes):
            site.start()
            site.end(min(scene.page, scene.places))
            clock.time(make_pass)
            if not clock.promoted[-1]:
                raise RuntimeError("a pass promoted nothing, with slots free")

    def full(clock: Clock) -> None:
        site.start()
        for _ in range(min(IDLE, scene.passes)):
            clock.time(make_pass)

    found = {"busy": measured(site, busy), "full": measured(site, full)}
    found["sweeps"] = sweeps()
    site.connection.execute("DELETE FROM taskcontrol_tasklog WHERE status = 'Pending'")
    found["idle"] = measured(site, full)
    return found


def part(site: Simulated, number: int) -> None:
    """Put the ledger into partitions, of which the last is in use."""
    from bench.scale.partitions import CONVERT, MONTH, SHOWN, TURN, months, of_month

    kept = months(SHOWN, number)
    for statements in (
        of_month(CONVERT, kept[0]),
        *(of_month(MONTH, month) for month in kept),
        of_month(TURN, kept[-1]),
    ):
        site.connection.execute(statements)


def fill(site: Simulated) -> None:
    """Let every slot be taken, by an ordinary pass with a page large enough."""
    from taskcontrol.dispatch import make_pass

    settle(site.scene.places + 1)
    with site.in_place_of_the_broker():
        make_pass()
    settle(site.scene.page)
    site.start()
    if len(site.running) < site.scene.places:
        raise RuntimeError(f"{len(site.running)} of {site.scene.places} slots are taken")


def sweeps() -> Figures:
    """Return the milliseconds of the sweeps of a worker's dispatcher, when nothing is amiss."""
    from taskcontrol import measures, rescue, resending

    calls = {
        "rescue_ms": rescue.rescue_lost_tasks,
        "resend_ms": resending.resend_unclaimed,
        "learn_ms": measures.learn,
    }
    return {name: _milliseconds(call) for name, call in calls.items()}


def _milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def share(scene: Scene, ready: Path, go: Path, *, first: bool, seconds: float) -> Figures:
    """Promote for some seconds beside other processes, in a database of its own or of all."""
    from taskcontrol.dispatch import make_pass

    site = Simulated(scene)
    if first:
        site.build()
        fill(site)
    ready.touch()
    while not go.exists():
        time.sleep(0.01)
    site.join()
    until = time.perf_counter() + seconds

    def busy(clock: Clock) -> None:
        while time.perf_counter() < until:
            site.start()
            site.end(scene.page)
            clock.time(make_pass)

    began = time.perf_counter()
    found = measured(site, busy)
    return {**found, "seconds": time.perf_counter() - began}


def main(given: Mapping[str, Any]) -> dict[str, Any]:
    """Do what was asked for: a whole scene, or a share beside others."""
    import django

    django.setup()
    from taskcontrol.suspension import dispatcher_state

    dispatcher_state()
    scene = Scene(**given["scene"])
    settle(scene.page)
    if "go" not in given:
        return drive(scene)
    return share(
        scene,
        Path(given["ready"]),
        Path(given["go"]),
        first=given["first"],
        seconds=given["seconds"],
    )


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.loads(sys.argv[1]))) + "\n")
