"""Lets a site work for half an hour and looks what grows: ``python -m bench.soak``.

A mix of tasks (priorities, limits, failures, retries, cancels, batches) runs on two workers with
beat, PostgreSQL and Redis of its own; what has ended is pruned after a fifth of the time, so
that the ledger reaches a size and stays there. Samples go to a CSV, curves to SVGs, the verdict
to standard output and a file beside them. ``--faults`` also lets the fault laboratory's nemesis
break something every so often. The exit status is 1 when a task was left that had not ended.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import keeping
from bench.machine import commit, machine
from bench.stage import make_directory
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis

#: Part of the time for which an ended task is kept.
KEPT = 0.2
#: Seconds in which all must have ended when nothing more is asked for.
CALM = 120.0


def main(argv: Sequence[str]) -> int:
    """Soak, and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=20, help="calls per second")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--faults", action="store_true", help="strike all the while")
    parser.add_argument("--pace", type=float, default=15, help="seconds between two faults")
    parser.add_argument("--output", type=Path, default=Path("build/soak"))
    parser.add_argument("--write", action="store_true", help="into docs/performance.md too")
    options = parser.parse_args(argv)
    options.given = list(argv)
    if options.write and (why := keeping.too_busy()):
        sys.stdout.write(f"{why}\n")
        return 2
    directory = make_directory()
    database, broker = (
        Postgres(directory / "postgres", fsync=True),
        Redis(directory / "r.sock"),
    )
    try:
        database.start()
        broker.start()
        _enter(directory, database, broker)
        return _soak(options, directory, database, broker)
    finally:
        broker.process.kill()
        database.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _enter(directory: Path, database: Postgres, broker: Redis) -> None:
    """Let this process and those that it starts be of the site on these servers."""
    os.environ.update(
        TASKCONTROL_TEST_DIR=str(directory),
        DJANGO_SETTINGS_MODULE="tests.settings",
        DATABASE_URL=f"postgres://{database.user}@127.0.0.1:{database.port}/postgres",
        BROKER_URL=broker.broker_url,
        REDIS_URL=broker.url,
        TASKCONTROL_ALLOWED_MODULES="bench",
        TASKCONTROL_BENCH_RECORD=str(directory / "record"),
        DEBUG="0",
        SECRET_KEY="only-for-measuring",  # noqa: S106 - no site
    )
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)


def _soak(
    options: argparse.Namespace, directory: Path, database: Postgres, broker: Redis
) -> int:
    from bench.soak import cast, mix, sampling, verdict
    from bench.soak.working import work

    days = KEPT * options.minutes / (24 * 60)
    conf: dict[str, Any] = {
        "RETENTION_DAYS": dict.fromkeys(("Finished", "Canceled", "Failed"), days)
    }
    mix.declare()
    company = (
        cast.struck(database, broker, conf, options.seed)
        if options.faults
        else cast.quiet(database, broker, conf)
    )
    began = time.monotonic()
    with company as players:
        worked = work(options, players, sampling.Sampler(directory / "record", broker))
        cast.make_peace(players)
        left = cast.calm(CALM)
    found = verdict.findings(worked.samples)
    options.output.mkdir(parents=True, exist_ok=True)
    sampling.write(worked.samples, options.output / "samples.csv")
    pictures = verdict.pictures(worked.samples)
    for name, picture in pictures.items():
        (options.output / f"{name}.svg").write_text(picture)
    faults = players.nemesis.struck if players.nemesis is not None else 0
    text = (
        f"{worked.tasks:,} tasks in {(time.monotonic() - began) / 60:.1f} minutes, "
        f"{faults} faults, {left} left that had not ended.\n\n{verdict.told(found, struck=options.faults)}\n"
    )
    (options.output / "verdict.md").write_text(text)
    sys.stdout.write(text)
    if options.write:
        keeping.write_soak(f"{_how(options)}\n\n{text}", pictures)
    return 1 if left else 0


def _how(options: argparse.Namespace) -> str:
    """Return what the page says of where the figures come from."""
    command = shlex.join(["python", "-m", "bench.soak", *options.given])
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"`{command}`, {day}, commit {commit()}; {machine()}."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
