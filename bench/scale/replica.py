"""Admin on a read replica: a streaming standby, and every page of admin asked from it.

``python -m bench.scale.replica build N`` fills the site; ``... ask`` is the site that only reads.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from bench.stage import Stage
from tests.servers.ports import free_port
from tests.servers.postgres import binaries
from tests.servers.process import Process, run
from tests.servers.users import give_to, server_user
from tests.waiting import eventually

SETTINGS = "bench.scale.readonly"


@contextmanager
def standby(stage: Stage) -> Iterator[int]:
    """Run a standby of the stage's PostgreSQL; give the block its port."""
    directory, user, port = stage.directory / "standby", server_user(), free_port()
    directory.mkdir()
    give_to(user, directory)
    programs, source = binaries(), str(stage.postgres.port)
    copied = [
        "-h",
        "127.0.0.1",
        "-p",
        source,
        "-U",
        "postgres",
        "-D",
        str(directory / "data"),
    ]
    run([str(programs / "pg_basebackup"), *copied, "-R", "-c", "fast"], user)
    command = [str(programs / "postgres"), "-D", str(directory / "data"), "-p", str(port)]
    for option in (f"unix_socket_directories={directory}", "max_connections=200"):
        command += ["-c", option]
    process = Process(command, log=directory.with_suffix(".log"), user=user)
    process.start()
    try:
        eventually(partial(_ready, port), timeout=60, why=process.tail)
        yield port
    finally:
        process.stop(signal.SIGINT)


def _ready(port: int) -> bool:
    import psycopg

    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres"),
    ):
        return True
    return False


def measure(stage: Stage, number: int) -> dict[str, Any]:
    """Return how many pages of admin there are, and which do not answer."""
    stage.clear()
    stage.run(sys.executable, "-m", "bench.scale.replica", "build", str(number))
    with standby(stage) as port:
        where = {
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "TASKCONTROL_BENCH_REPLICA": str(port),
        }
        return stage.python("bench.scale.replica", "ask", env=where)


def ask() -> dict[str, Any]:
    """Ask for each page, and try to cancel a task from here."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import InternalError, connections
    from django.test import Client

    from bench.pages import pages
    from taskcontrol.models import TaskLog

    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.force_login(User.objects.get(username="boss"))
    found = {name: client.get(url).status_code for name, url in pages().items()}
    written = False
    with suppress(InternalError):
        written = TaskLog.objects.pending()[0].cancel()
    with connections["replica"].cursor() as cursor:
        cursor.execute("SELECT PG_IS_IN_RECOVERY()")
        (is_standby,) = cursor.fetchone()
    return {
        "pages": len(found),
        "failed": [name for name, status in found.items() if status != 200],
        "standby": is_standby,
        "refused": not written,
    }


def build(number: int) -> dict[str, Any]:
    """Fill the site, and ask once for what is stored at the first look."""
    from django.conf import settings
    from django.test import Client

    from bench.usedsite import build as filled

    settings.ALLOWED_HOSTS = ["testserver"]
    client = Client()
    client.force_login(filled(number))
    client.get("/admin/taskcontrol/queuestate/")
    return {"number": number}


def main(what: str, *given: str) -> dict[str, Any]:
    """Build or ask."""
    import django

    django.setup()
    return ask() if what == "ask" else build(int(given[0]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
