"""Assembles the processes of ``up``: who they are, in which order they start, when all is well."""

from __future__ import annotations

import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from socket import socket

from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import DatabaseError, connections
from django.urls import NoReverseMatch, Resolver404, resolve, reverse

from ..conf import known_queues
from ..models import Worker
from .broker import EmbeddedBroker
from .childlogs import Screen, fresh_log
from .datafolder import Claim, claim, data_folder
from .firstlogin import first_login
from .interruption import Interruption
from .listening import listen, url_of
from .supervision import Child, Supervisor

#: Seconds after which it is said who is not ready yet.
PATIENCE = 30.0
#: A worker may finish what runs, then must drop it: the rows are rescued at the next start.
WORKER_ENDING = ((signal.SIGTERM, 8.0), (signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0))


@dataclass(kw_only=True)
class Wishes:
    """What the person at the command line asked for."""

    host: str
    port: int | None
    workers: int
    loglevel: str
    without: list[str] = field(default_factory=list)


class Household:
    """One run of ``up``."""

    def __init__(self, wishes: Wishes, out: OutputWrapper) -> None:
        self._wishes = wishes
        self._folder = data_folder()
        self._screen = Screen(out, color=out.isatty() and "NO_COLOR" not in os.environ)
        self._environment = {
            "TASKCONTROL_DATA_DIR": str(self._folder),
            "PYTHONUNBUFFERED": "1",
        }

    @property
    def _manners(self) -> list[str]:
        """How much a Celery process says on the screen that it shares with the others."""
        return ["--quiet", "--loglevel", self._wishes.loglevel]

    def run(self) -> None:
        """Start everything and keep it running until Ctrl-C or SIGTERM."""
        interruption = Interruption()
        interruption.listen()
        with ExitStack() as stack:
            held = stack.enter_context(claim(self._folder))
            door = self._open_door(stack)
            held.record(url=url_of(door) if door else "without web")
            supervisor = Supervisor(
                say=self._screen.say,
                on_tick=self._screen.show,
                on_start=lambda pids: held.record(children=pids),
                interruption=interruption,
            )
            try:
                self._bring_up(supervisor, held, door)
                supervisor.watch()
            except KeyboardInterrupt:
                self._screen.say("stopping; Ctrl-C again ends everything at once")
            finally:
                supervisor.stop()
        self._screen.say("stopped")

    def _open_door(self, stack: ExitStack) -> socket | None:
        """Listen for browsers, unless somebody else serves them."""
        if "web" in self._wishes.without:
            return None
        return stack.enter_context(listen(self._wishes.host, self._wishes.port))

    def _bring_up(self, supervisor: Supervisor, held: Claim, door: socket | None) -> None:
        if not os.environ.get("BROKER_URL"):
            supervisor.start(self._broker(held))
        login = self._prepare_database()
        for child in self._children(held, door):
            supervisor.start(child)
        while late := supervisor.wait_until_ready(PATIENCE):
            names = ", ".join(child.name for child in late)
            self._screen.say(f"not ready yet: {names}. Logs: {self._folder / 'logs'}")
        connections.close_all()
        self._announce(door, login)

    def _prepare_database(self) -> str:
        """Migrate, and return how to log in."""
        try:
            call_command("migrate", verbosity=0, interactive=False, skip_checks=False)
            return first_login(self._folder)
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used: {error}. DATABASE_URL names it; without "
                "that variable an SQLite file in the data folder is used."
            ) from error
        finally:
            connections.close_all()

    def _announce(self, door: socket | None, login: str) -> None:
        self._screen.show()
        self._screen.say("everything is up")
        if door:
            if _has_front_page():
                self._screen.say(f"  site   {url_of(door)}/")
            self._screen.say(f"  page   {url_of(door)}{_page()}")
        self._screen.say(f"  login  {login}")
        self._screen.say(f"  data   {self._folder} (logs in logs/)")
        self._screen.say("  stop   Ctrl-C")

    def _children(self, held: Claim, door: socket | None) -> Iterator[Child]:
        if "worker" not in self._wishes.without:
            yield from self._workers(held)
        if "beat" not in self._wishes.without:
            yield self._child("beat", "beat", held, self._manners)
        if door:
            page = f"{url_of(door)}{_page()}"
            web = self._child("web", "web", held, ["--fd", str(door.fileno())])
            web.inherited = (*web.inherited, door.fileno())
            web.ready = lambda _pid: _answers(page)
            yield web

    def _broker(self, held: Claim) -> Child:
        broker = EmbeddedBroker(self._folder / "broker")
        command = broker.prepare()
        self._environment["BROKER_URL"] = broker.url
        self._environment.setdefault(
            "REDIS_URL", os.environ.get("REDIS_URL") or broker.redis_url
        )
        return Child(
            role="broker",
            name="broker",
            command=command,
            log=self._log("broker"),
            inherited=(held.fd,),
            ready=lambda _pid: broker.answers(),
        )

    def _workers(self, held: Claim) -> Iterator[Child]:
        """One worker for all queues, and one for each queue that has processes of its own."""
        own = {
            name: options["background_workers"]
            for name, options in known_queues().items()
            if options.get("background_workers")
        }
        shared = [name for name in known_queues() if name not in own]
        plan = [("worker", shared, self._wishes.workers)] if shared else []
        plan += [(f"worker-{name}", [name], slots) for name, slots in own.items()]
        newest = Worker.objects.order_by("-id").values_list("id", flat=True).first() or 0
        for name, queues, slots in plan:
            options = [
                "--name",
                name,
                "--queue",
                ",".join(queues),
                "--num-workers",
                str(slots),
            ]
            child = self._child("worker", name, held, [*options, *self._manners])
            child.ending = WORKER_ENDING
            # At SIGTERM it would go on to the end of its task, without a broker.
            child.orphaned = signal.SIGQUIT
            child.ready = partial(_has_registered, newest)
            yield child

    def _child(self, verb: str, name: str, held: Claim, options: list[str]) -> Child:
        command = [*_manage(), "taskcontrol", verb, *options]
        return Child(
            role=verb,
            name=name,
            command=command,
            log=self._log(name),
            environment=self._environment,
            inherited=(held.fd,),
            ready=lambda _pid: True,
        )

    def _log(self, name: str) -> Path:
        log = fresh_log(self._folder / "logs", name)
        self._screen.follow(name, log)
        return log


def _manage() -> list[str]:
    """Return the command that runs this project's commands, as this process was started."""
    script = Path(sys.argv[0])
    if script.name == "__main__.py":
        return [sys.executable, "-m", "django"]
    return [sys.executable, str(script.absolute())]


def _has_registered(newest: int, pid: int) -> bool:
    """Tell whether the worker with this pid wrote its row after this ``up`` began."""
    try:
        return Worker.objects.filter(
            id__gt=newest, pid=pid, left_at=None, lost_at=None
        ).exists()
    except DatabaseError:
        return False


def _page() -> str:
    try:
        return reverse("admin:index")
    except NoReverseMatch:
        return "/"


def _has_front_page() -> bool:
    try:
        return bool(resolve("/"))
    except Resolver404:
        return False


def _answers(url: str) -> bool:
    """Tell whether ``url`` is served, after redirects and without any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1) as response:
            return bool(response.status == 200)
    except urllib.error.HTTPError as answer:
        # A site without admin may have nothing at its root.
        return answer.code == 404
    except OSError:
        return False
