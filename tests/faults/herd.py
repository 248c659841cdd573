"""Processes that do one thing again and again, and come back however often they are killed.

``python -m tests.faults.herd THING NUMBER SEED [POINT …]``. One process loads the site and
forks the others, so that a new one in the place of a dead one costs next to nothing. Of those
that come later some die by themselves, at one of the named points of ``crashpoints.py``.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from taskcontrol import crashpoints
from tests.lab import LAB
from tests.servers.environment import site_environment
from tests.servers.process import Process
from tests.waiting import eventually

CRASHES = LAB / "crashes"
#: The longest pause in seconds between two rounds of one process.
PAUSE = 0.2
#: One of so many processes that follow a dead one dies at a named point.
ONE_DIES_OF = 2
PR_SET_PDEATHSIG = 1


class Herd:
    """``number`` processes that do ``thing``; the test kills them one by one."""

    def __init__(
        self, thing: str, number: int, seed: int, points: Sequence[str] = ()
    ) -> None:
        unknown = set(points) - crashpoints.POINTS.keys()
        assert not unknown, f"there are no such points: {unknown}"
        self.number = number
        CRASHES.mkdir(exist_ok=True)
        for old in CRASHES.iterdir():
            old.unlink()
        command = [sys.executable, "-m", "tests.faults.herd", thing, str(number), str(seed)]
        environment = {**site_environment(), "TASKCONTROL_CRASH_AT": ""}
        log = LAB / f"herd-{thing}.log"
        self.process = Process([*command, *points], log=log, env=environment)

    def __enter__(self) -> Herd:
        self.process.start()
        eventually(lambda: len(self.members()) == self.number, 30, why=self.process.tail)
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()

    def members(self) -> list[psutil.Process]:
        """Return those that are there."""
        return self.process.descendants()

    def kill_one(self, dice: random.Random) -> None:
        """Kill one of them in whatever it does; another takes its place."""
        members = self.members()
        if members:
            with suppress(psutil.NoSuchProcess):
                dice.choice(members).kill()

    def crashes(self) -> list[str]:
        """Return the points at which one died by itself, one for each time."""
        return [file.name.partition("-")[0] for file in CRASHES.iterdir()]


def main(thing: str, number: str, seed: str, *points: str) -> None:
    """Keep so many children at their work, until this process is killed."""
    import django

    django.setup()
    works = _works()[thing]
    born = 0
    children: set[int] = set()
    while True:
        while len(children) < int(number):
            born += 1
            dice = random.Random(f"{seed}-{born}")
            point = ""
            if points and born > int(number) and dice.randrange(ONE_DIES_OF) == 0:
                point = f"{dice.choice(points)}=kill:{CRASHES}/{{point}}-{born}"
            children.add(_fork(works, dice, point))
        pid, _ = os.wait()
        children.discard(pid)


def _works() -> dict[str, Callable[[], object]]:
    from taskcontrol.dispatch import dispatch_pending
    from taskcontrol.rescue import rescue_lost_tasks
    from taskcontrol.resending import resend_unclaimed
    from taskcontrol.retries import retry_failed_tasks

    def sweep() -> None:
        retry_failed_tasks()
        rescue_lost_tasks()
        resend_unclaimed()

    return {"dispatch": dispatch_pending, "retry": retry_failed_tasks, "sweep": sweep}


def _fork(work: Callable[[], object], dice: random.Random, point: str) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    _work_for_ever(work, dice, point)
    return 0


def _work_for_ever(work: Callable[[], object], dice: random.Random, point: str) -> None:
    from django.db import close_old_connections, connections

    from taskcontrol.exceptions import BrokerUnavailable

    before, pause = dice.randrange(1, 12), threading.Event()
    rounds = 0
    while True:
        rounds += 1
        if point and rounds == before:
            name = point.partition("=")[0]
            os.environ[crashpoints.VARIABLE] = point.format(point=name)
            crashpoints.arm()
        try:
            close_old_connections()
            work()
        except BrokerUnavailable:
            pass
        except Exception as error:  # noqa: BLE001 - it goes on, as a worker does
            sys.stderr.write(f"{os.getpid()}: {error!r}\n")
            connections.close_all()
        pause.wait(dice.uniform(0, PAUSE))


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    assert Path(LAB).is_dir()
    main(*sys.argv[1:])
