"""Drives the real dispatcher at the size of a large site: ``python -m bench.scale``.

PostgreSQL and Redis are its own. Workers are rows, bodies do not run, and the broker's side of a
pass is a stand-in that costs nothing; what a message costs is measured by itself. With
``--write`` the figures go to ``docs/scale.json`` and the tables of ``docs/scale.md`` are made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.machine import commit, machine
from bench.scale import pooled, replica, report
from bench.scale.scenes import SCENES, SHARD, SHARD_SECONDS, SHARDS, Scene
from bench.scale.sharing import copy, drop, together
from bench.stage import Stage, make_directory
from bench.usage import busy_seconds

#: Tasks that walk their road one by one, on the ledger as it is and on one in partitions;
#: turns of the caller behind a pooler.
WALKED, PARTED, POOLED = 4000, 1000, 200
#: Tasks of the site whose pages are asked from a standby.
SHOWN = 20_000

PARTS = ("scenes", "shards", "road", "partitions", "pooled", "replica")


class Run:
    """One call with its figures."""

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.smoke = stage, options.smoke

    def measure(self, part: str) -> Any:
        """Return the figures of one part."""
        return getattr(self, part)()

    def scenes(self) -> list[dict[str, Any]]:
        """Return what the dispatcher costs in each scene."""
        chosen = (SCENES[0], SCENES[4], SCENES[7]) if self.smoke else SCENES
        return [self._scene(one.small() if self.smoke else one) for one in chosen]

    def _scene(self, scene: Scene) -> dict[str, Any]:
        began = time.monotonic()
        copy(self.stage, "scale-1")
        found = self._python("passes", json.dumps({"scene": scene._asdict()}))
        drop(self.stage, "scale-1")
        say(
            f"{json.dumps(scene)}: {json.dumps(found)}, {time.monotonic() - began:.0f} s in all"
        )
        return {"scene": scene._asdict(), **found}

    def shards(self) -> list[dict[str, Any]]:
        """Return what dispatchers bring side by side: in a database each, and in one."""
        scene = SHARD.small() if self.smoke else SHARD
        seconds = 0.5 if self.smoke else SHARD_SECONDS
        asked = [(number, False) for number in SHARDS] + [(SHARDS[-1], True)]
        return [
            {
                "dispatchers": number,
                "one": one,
                **together(self.stage, scene, number, seconds, one=one),
            }
            for number, one in (asked[-2:] if self.smoke else asked)
        ]

    def road(self) -> dict[str, Any]:
        """Return what one task writes, and what is left of it."""
        copy(self.stage, "scale-1")
        redis = self.stage.cpu()["redis"]
        found = self._python("road", 20 if self.smoke else WALKED)
        redis = self.stage.cpu()["redis"] - redis
        found["publish"]["redis_us"] = 1e6 * redis / found["publish"]["number"]
        drop(self.stage, "scale-1")
        return found

    def partitions(self) -> dict[str, Any]:
        """Return the same on a ledger in partitions, beside one that is not."""
        copy(self.stage, "scale-1")
        found = self._python("partitions", 20 if self.smoke else PARTED)
        drop(self.stage, "scale-1")
        return found

    def pooled(self) -> dict[str, Any]:
        """Return how workers and a caller got on behind PgBouncer; nothing without one."""
        if pooled.program() is None:
            return {}
        return pooled.measure(self.stage, 10 if self.smoke else POOLED)

    def replica(self) -> dict[str, Any]:
        """Return how admin got on with a standby."""
        return replica.measure(self.stage, 200 if self.smoke else SHOWN)

    def _python(self, module: str, given: object) -> dict[str, Any]:
        where = {"DATABASE_URL": self.stage.database_url("scale-1")}
        return self.stage.python(f"bench.scale.{module}", given, env=where)


def main(argv: Sequence[str]) -> int:
    """Measure, print the tables, and keep each part if that was asked for."""
    options = _options(argv)
    lines: dict[str, report.Line] = {}
    directory = make_directory()
    try:
        with Stage(directory) as stage:
            run = Run(stage, options)
            for name in options.parts or PARTS:
                say(f"{name} …")
                lines[name] = _line(stage, run, name)
                if options.write:
                    report.write({name: lines[name]})
                stage.redis.flush()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say(report.told(lines))
    return 0


def _line(stage: Stage, run: Run, name: str) -> report.Line:
    """Measure one part; return its figures, and on what and beside what they were taken."""
    load, busy, began = os.getloadavg()[0], busy_seconds(), time.perf_counter()
    cpu = sum(stage.cpu().values())
    figures = run.measure(name)
    seconds = time.perf_counter() - began
    cpu = sum(stage.cpu().values()) - cpu
    return {
        "figures": figures,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "command": f"python -m bench.scale {name}",
        "machine": machine(),
        "load": round(load, 1),
        # In cores, of this whole machine.
        "foreign": round(max(0.0, (busy_seconds() - busy - cpu) / seconds), 1),
        "minutes": round(seconds / 60, 1),
    }


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument(
        "parts",
        nargs="*",
        choices=[*PARTS, []],
        metavar="PART",
        help=f"of {', '.join(PARTS)}; all if left out",
    )
    parser.add_argument("--write", action="store_true", help="into docs/scale.md")
    parser.add_argument("--smoke", action="store_true", help="everything once, tiny")
    options = parser.parse_args(argv)
    if options.write and options.smoke:
        parser.error("--smoke has no figures that could be written")
    return options


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
