"""Real workers, beat's sweeps and callers behind PgBouncer: ``pool_mode=transaction``.

``python -m bench.scale.pooled N`` is the caller: it enqueues in every way that there is, and
waits for the ends.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.stage import Stage
from tests.servers.ports import answers, free_port
from tests.servers.process import Process
from tests.servers.users import give_to, server_user
from tests.waiting import eventually

#: Sessions of PostgreSQL that all clients share.
SESSIONS = 4
#: Seconds that the tasks may take in all.
LONGEST = 300
WORKER = "celery -A project worker -c 4 -l WARNING -Q short,default,long --without-gossip"
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={postgres} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
unix_socket_dir =
logfile = {directory}/pgbouncer.log
pidfile = {directory}/pgbouncer.pid
"""


def program() -> str | None:
    """Return the path of PgBouncer, if it is installed."""
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def pooler(stage: Stage) -> Iterator[int]:
    """Run PgBouncer before the stage's PostgreSQL; give the block its port."""
    directory = Path(stage.directory) / "pgbouncer"
    directory.mkdir()
    port, user = free_port(), server_user()
    file = directory / "pgbouncer.ini"
    file.write_text(
        CONFIGURATION.format(
            postgres=stage.postgres.port, port=port, sessions=SESSIONS, directory=directory
        )
    )
    give_to(user, directory)
    command = [str(program()), str(file)]
    process = Process(command, log=directory / "output.log", user=user)
    process.start()
    try:
        eventually(lambda: answers(("127.0.0.1", port)), why=process.tail)
        yield port
    finally:
        process.stop()


def measure(stage: Stage, number: int) -> dict[str, Any]:
    """Let two workers run the tasks of a caller, all of them behind the pooler."""
    stage.clear()
    with pooler(stage) as port:
        where = {"DATABASE_URL": f"postgres://postgres@127.0.0.1:{port}/{stage.ours.name}"}
        for name in ("one", "two"):
            stage.start_one(stage.ours, f"{WORKER} -n {name}@pooled", env=where)
        found = stage.python("bench.scale.pooled", number, env=where)
        clients, servers = _sessions(port)
        found |= {"clients": clients, "servers": servers, "sessions": SESSIONS}
        stage.stop()
    return found


def _sessions(port: int) -> tuple[int, int]:
    """Return how many clients the pooler has, and how many sessions of PostgreSQL."""
    import psycopg

    address = f"host=127.0.0.1 port={port} user=postgres dbname=pgbouncer"
    with psycopg.connect(address, autocommit=True) as connection:
        # Its console knows nothing but plain queries.
        found = [
            len(psycopg.ClientCursor(connection).execute(f"SHOW {what}").fetchall())
            for what in ("CLIENTS", "SERVERS")
        ]
    return found[0], found[1]


def main(number: int) -> dict[str, Any]:
    """Enqueue one by one, in transactions, in bulk, with keys, with locks; wait for the ends."""
    import django

    django.setup()
    from django.db import transaction

    import taskcontrol
    from bench.bodies import noop
    from taskcontrol.models import TaskLog

    for turn in range(number):
        with transaction.atomic():
            taskcontrol.enqueue(noop, asked_at=1.0)
        key = f"key-{turn % 5}"
        taskcontrol.enqueue(noop, asked_at=1.0, job_id=key, deduplicate=True)
        with taskcontrol.lock(f"lock-{turn}"):
            pass
        canceled = taskcontrol.enqueue(noop, asked_at=1.0, paused=True)
        taskcontrol.cancel(canceled)
    batch = taskcontrol.bulk_enqueue(
        ({"asked_at": 1.0} for _ in range(number)), method=noop
    )
    until = time.monotonic() + LONGEST
    rows = TaskLog.objects.unended()
    while rows.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"{rows.count()} tasks have not ended")
        time.sleep(0.1)
    by_status = {
        status: TaskLog.objects.filter(status=status).count()
        for status in ("Finished", "Canceled", "Failed")
    }
    in_batch = TaskLog.objects.filter(batch_id=batch, status="Finished").count()
    return {"by_status": by_status, "in_batch": in_batch, "number": number}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))) + "\n")
