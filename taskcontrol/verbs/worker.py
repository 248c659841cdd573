"""Start a Celery worker in this process.

It is Celery's own worker of the project's Celery app, with the flags that taskcontrol was
measured with: no gossip, no mingle, one slot per child. It takes every known queue unless
--queue names some. Stop it with SIGTERM or Ctrl-C: it finishes what runs and takes nothing
new. In production `celery -A PROJECT worker` with the same flags is just as good.

    manage.py taskcontrol worker --queue short,default --num-workers 4 --name a
    manage.py taskcontrol worker --queue short --burst --name extra

Exit status: 0 when it was told to end, or when a burst is over.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError, OutputWrapper


def add_arguments(parser: ArgumentParser) -> None:
    """Take the options of Celery's worker that matter here, under plain names."""
    parser.add_argument(
        "--queue",
        metavar="NAME[,NAME]",
        help="queues to take tasks from; all known ones if left out",
    )
    parser.add_argument(
        "--num-workers",
        metavar="N",
        type=int,
        help="tasks that run at the same time; if left out the queue's background_workers "
        "if it is one, else the number of CPUs",
    )
    parser.add_argument(
        "--burst",
        action="store_true",
        help="end when nothing has run for 3 s: what still waits is held back or for later",
    )
    parser.add_argument(
        "--pool",
        choices=("prefork", "threads", "solo"),
        default="prefork",
        help="prefork (the default) alone can stop a task that does not listen",
    )
    parser.add_argument(
        "--name", help="its name on this machine; needed from the second worker on"
    )
    parser.add_argument("--loglevel", default="info", metavar="L", help="info if left out")
    parser.add_argument("--quiet", action="store_true", help="without Celery's banner")


def handle(options: dict[str, Any], stdout: OutputWrapper) -> None:
    """Become a Celery worker until it is told to stop."""
    from ..burst import burst
    from ..celeryapp import project_app

    app = project_app()
    queues = _queues(options["queue"])
    if (number := options["num_workers"]) is not None and number < 1:
        raise CommandError(f"--num-workers must be 1 or more, not {number}.")
    burst.wanted = options["burst"]
    for queue in queues:
        # Also where the project switched off task_create_missing_queues.
        if queue not in app.amqp.queues:
            app.amqp.queues.add(app.amqp.queues.new_missing(queue))
    code = app.start(_celery_arguments(options, queues))
    if code:
        raise SystemExit(code)


def _queues(wanted: str | None) -> list[str]:
    from ..conf import known_queues

    known = list(known_queues())
    given = known if wanted is None else wanted.split(",")
    names = [name.strip() for name in given if name.strip()]
    if not names:
        raise CommandError(f"--queue names no queue. Known are {', '.join(known)}.")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise CommandError(
            f"Unknown queue: {', '.join(unknown)}. Known are {', '.join(known)}; "
            'TASKCONTROL["QUEUES"] declares more.'
        )
    return names


def _celery_arguments(options: dict[str, Any], queues: list[str]) -> list[str]:
    arguments = ["--quiet"] if options["quiet"] else []
    arguments += ["worker", "--without-gossip", "--without-mingle"]
    arguments += ["--queues", ",".join(queues), "--pool", options["pool"]]
    arguments += ["--loglevel", options["loglevel"]]
    if number := options["num_workers"] or _own_workers(queues):
        arguments += ["--concurrency", str(number)]
    if name := options["name"]:
        arguments += ["--hostname", name if "@" in name else f"{name}@%h"]
    return arguments


def _own_workers(queues: list[str]) -> int | None:
    """Return how many the settings give to a queue that has a worker for itself."""
    from ..conf import known_queues

    return known_queues()[queues[0]].get("background_workers") if len(queues) == 1 else None
