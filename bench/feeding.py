"""Asks for tasks in a process of its own: ``python -m bench.feeding MODULE N [GAP] [many]``."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from typing import Any

#: Calls before those that count: imports, connections and prepared statements.
WARM = 20
now = time.time  # noqa: TID251 - compared with the clock of another process


def one_by_one(contender: Any, number: int, gap: float) -> dict[str, float]:
    """Ask for one after the other, ``gap`` seconds apart; those that warm up count too."""
    if gap == 0:
        warm = min(WARM, number // 2)
        for _ in range(warm):
            contender.enqueue(now())
        number -= warm
    wall, cpu = time.perf_counter(), time.process_time()
    calls = []
    for _ in range(number):
        began = time.perf_counter()
        contender.enqueue(now())
        calls.append(time.perf_counter() - began)
        time.sleep(gap)
    return {**_took(wall, cpu), "p50": sorted(calls)[len(calls) // 2], "number": number}


def many(contender: Any, number: int) -> dict[str, float]:
    """Ask for all at once, or one by one where there is no better way."""
    if not hasattr(contender, "enqueue_many"):
        return one_by_one(contender, number, 0)
    warm = min(WARM, number // 2)
    contender.enqueue_many([now()] * warm)
    wall, cpu = time.perf_counter(), time.process_time()
    contender.enqueue_many([now()] * (number - warm))
    return {**_took(wall, cpu), "number": number - warm}


def _took(wall: float, cpu: float) -> dict[str, float]:
    return {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def main() -> None:
    """Ask, and print what it took."""
    module, number, gap = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        import django

        django.setup()
    contender = import_module(f"bench.contenders.{module}")
    if sys.argv[4:] == ["many"]:
        took = many(contender, number)
    else:
        took = one_by_one(contender, number, gap)
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
