"""Several dispatchers at the same time: each in a database of its own, or all in one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from bench.scale.scenes import Scene
from bench.stage import Stage
from bench.workloads import Figures


def together(
    stage: Stage, scene: Scene, number: int, seconds: float, *, one: bool
) -> Figures:
    """Let ``number`` dispatchers promote for some seconds, in ``one`` database or in many."""
    databases = ["scale-1" if one else f"scale-{n + 1}" for n in range(number)]
    marks = stage.directory / "marks"
    marks.mkdir()
    for name in set(databases):
        copy(stage, name)
    go = marks / "go"
    ends: list[Callable[[], str]] = []
    for n, database in enumerate(databases):
        given = {
            "scene": scene._asdict(),
            "seconds": seconds,
            "first": not one or n == 0,
            "ready": str(marks / str(n)),
            "go": str(go),
        }
        ends.append(_begin(stage, database, given))
        if one and n == 0:
            _wait_for(stage, marks / "0")  # the others find what it has built
    for n in range(number):
        _wait_for(stage, marks / str(n))
    go.touch()
    found = [json.loads(end().splitlines()[-1]) for end in ends]
    for name in set(databases):
        drop(stage, name)
    for mark in marks.iterdir():
        mark.unlink()
    marks.rmdir()
    return {
        "promoted": sum(each["promoted"] for each in found),
        "per_second": sum(each["promoted"] / each["seconds"] for each in found),
        "held_p50_ms": max(each["held_p50_ms"] for each in found),
        "pass_p50_ms": max(each["pass_p50_ms"] for each in found),
        "pass_p95_ms": max(each["pass_p95_ms"] for each in found),
    }


def _begin(stage: Stage, database: str, given: dict[str, Any]) -> Callable[[], str]:
    command = [sys.executable, "-m", "bench.scale.passes", json.dumps(given)]
    return stage.begin(*command, env={"DATABASE_URL": stage.database_url(database)})


def _wait_for(stage: Stage, mark: Any, timeout: float = 300) -> None:
    until = time.monotonic() + timeout
    while not mark.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"no dispatcher was ready in {timeout} s:\n{stage.said()}")
        time.sleep(0.05)


def copy(stage: Stage, name: str) -> None:
    """Make an empty database of the site."""
    statement = f'CREATE DATABASE "{name}" TEMPLATE "{stage.ours.name}"'
    stage.sql(statement, database="postgres")


def drop(stage: Stage, name: str) -> None:
    """Take a database away, with its disk."""
    stage.sql(f'DROP DATABASE "{name}" WITH (FORCE)', database="postgres")
