"""Measures taskcontrol beside plain Celery and its peers, in turns: ``python -m bench``.

Peers are installed on demand, each into an environment of its own; all servers are its own, on
loopback. Without names every workload runs, which takes hours: ``--scale 0.1`` is quicker.
``flat`` and ``pages`` ask ours over much. With ``--write`` the figures go to
``docs/performance.jsonl`` and the tables and curves of ``docs/performance.md`` are made of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import environments, keeping
from bench.flat import SIZES, Flat
from bench.machine import commit, machine
from bench.pages import report
from bench.peers import BASE, OURS, chosen, named, peers
from bench.program import FOR_PEERS, WORKLOADS
from bench.report import Line, goals, table
from bench.stage import Stage, make_directory
from tests.servers.missing import ServerMissing

#: Workloads that have nothing to be compared with, and tables of their own.
ALONE = ("flat", "pages")
#: Tasks of the site whose pages are measured.
PAGES_ROWS = 2_000_000
SMOKE_SCALE = 0.001
#: Packages of the tests' environment that the contenders in it are made of.
PACKAGES = (
    "celery",
    "kombu",
    "billiard",
    "redis",
    "django",
    "psycopg",
    "django-celery-results",
)


class Run:
    """One call: who takes part, and the figures of all rounds."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.load = os.getloadavg()[0]
        self.found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.failed: list[str] = []
        self.taking_part = chosen(options.peers)
        self.pythons: dict[str, Path] = {}
        for peer in self.taking_part:
            say(f"environment of {peer.title}")
            self.pythons[peer.name] = environments.python_of(peer, options.cache)

    def measure(self) -> None:
        """Run every workload in every round, each contender once, in turns."""
        flat = Flat()
        directory = make_directory()
        try:
            with Stage(directory, self.pythons) as stage:
                for turn in range(self.options.rounds):
                    for name in self.options.workloads:
                        if name in ALONE:
                            self._alone(stage, name, flat, turn)
                        else:
                            self._compare(stage, name, turn)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if flat.found:
            say(flat.table())

    def _compare(self, stage: Stage, name: str, turn: int) -> None:
        """Run one workload for each who takes part; who begins changes from round to round."""
        workload = WORKLOADS[name]
        names = list(workload.who) or [peer.name for peer in self.taking_part]
        if self.options.smoke:
            names = list(dict.fromkeys((names[0], names[-1])))
        begin = turn % len(names)
        for who in (*names[begin:], *names[:begin]):
            part = stage.peers[who] if name in FOR_PEERS else who
            share = stage.peers[who].share if name in FOR_PEERS else 1.0
            began = time.monotonic()
            try:
                figures = workload.measure(
                    stage, part, workload.size(self.options.scale, share)
                )
            except (RuntimeError, TimeoutError, ServerMissing) as error:
                self._note(stage, f"{name}: {who}: {error}", who)
                continue
            for figure, value in figures.items():
                self.found[name, who][figure].append(value)
            shown = {
                key: round(value, 3) for key, value in figures.items() if "@" not in key
            }
            took = time.monotonic() - began
            say(f"round {turn + 1} {name} {who}: {shown}, {took:.0f} s in all")

    def _note(self, stage: Stage, what: str, who: str) -> None:
        """Leave who failed out of this round, and say why at once and at the end."""
        stage.kill()
        stage.stop()
        self.failed.append(what)
        say(f"{what}\n{stage.last_words(who)}")

    def _alone(self, stage: Stage, name: str, flat: Flat, turn: int) -> None:
        scale = self.options.scale
        if name == "pages":
            printed = stage.run(
                sys.executable, "-m", "bench.pages", str(int(PAGES_ROWS * scale))
            )
            say(report(json.loads(printed)))
            return
        for size in SIZES:
            took = flat.measure(stage, int(size * scale))
            say(f"round {turn + 1} {name} {size}: {took}")

    def lines(self) -> Iterator[Line]:
        """Return what is kept of it: a line for each contender in each workload."""
        by_name = {peer.name: peer for peer in self.taking_part}
        versions = {
            name: environments.versions(by_name[name], python, PACKAGES)
            for name, python in self.pythons.items()
        }
        for (workload, who), figures in sorted(self.found.items(), key=self._place):
            yield {
                "workload": workload,
                "contender": who,
                "figures": {
                    key: [_kept(one) for one in all_] for key, all_ in figures.items()
                },
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "commit": commit(),
                "load": round(self.load, 2),
                "command": shlex.join(["python", "-m", "bench", *self.options.given]),
                "machine": machine(),
                "versions": versions.get(who, versions[OURS]),
            }

    def _place(self, item: tuple[tuple[str, str], Any]) -> tuple[int, int]:
        workload, who = item[0]
        names = WORKLOADS[workload].who or tuple(peer.name for peer in self.taking_part)
        return list(WORKLOADS).index(workload), names.index(who)


def main(argv: Sequence[str]) -> int:
    """Measure, print the tables, and keep the figures if that was asked for."""
    options = _options(argv)
    if options.write and (why := keeping.too_busy()):
        say(why)
        return 2
    try:
        run = Run(options)
    except environments.NotInstalled as why:
        say(str(why))
        return 2
    run.measure()
    lines = list(run.lines())
    for name in dict.fromkeys(line["workload"] for line in lines):
        say(f"\n{name}\n{table([one for one in lines if one['workload'] == name])}")
    say(f"\n{goals(lines)}\n\n{machine()}")
    say("\n".join(["", *(f"failed: {one}" for one in run.failed)]))
    if options.write and lines:
        keeping.write(lines)
    return 1 if run.failed else 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "workloads",
        nargs="*",
        choices=[*WORKLOADS, *ALONE, []],
        metavar="WORKLOAD",
        help=f"of {', '.join([*WORKLOADS, *ALONE])}; all but the last two if left out",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the usual numbers")
    parser.add_argument(
        "--peers",
        type=named,
        default="all",
        help=f"all, none, or names: {', '.join(one for one in peers() if one not in (BASE, OURS))}",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=environments.default_cache(),
        help="where the peers' environments are kept (TASKCONTROL_BENCH_CACHE)",
    )
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    parser.add_argument(
        "--smoke", action="store_true", help="everything once, tiny and without peers"
    )
    options = parser.parse_args(argv)
    if options.smoke and options.write:
        parser.error("--smoke has no figures that could be written")
    options.given = list(argv)
    options.workloads = options.workloads or list(WORKLOADS)
    if options.smoke:
        options.rounds, options.scale, options.peers = 1, SMOKE_SCALE, []
        # At this scale it is what the drain is.
        options.workloads = [name for name in options.workloads if name != "short"]
    return options


def _kept(value: float) -> float:
    return float(f"{value:.4g}")


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
