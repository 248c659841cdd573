"""Enqueues for a contender in a process of its own: ``python -m bench.feeding CONTENDER N``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def plain_celery() -> Callable[[], Any]:
    """Return one enqueue of plain Celery."""
    from bench.plain import noop

    return lambda: noop.delay(time.time())  # noqa: TID251 - compared with another process


def taskcontrol() -> Callable[[], Any]:
    """Return one enqueue of ours: the row and the bell."""
    import django

    django.setup()
    from bench import bodies
    from taskcontrol import enqueue

    return lambda: enqueue(bodies.noop, asked_at=time.time())  # noqa: TID251 - as above


CONTENDERS = {"plain": plain_celery, "taskcontrol": taskcontrol}


def main() -> None:
    """Enqueue N one by one; print what it took, without imports and the first calls."""
    name, number = sys.argv[1], int(sys.argv[2])
    gap = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    enqueue = CONTENDERS[name]()
    if gap == 0:
        for _ in range(20):
            enqueue()
        number -= 20
    wall, cpu = time.perf_counter(), time.process_time()
    calls = []
    for _ in range(number):
        began = time.perf_counter()
        enqueue()
        calls.append(time.perf_counter() - began)
        time.sleep(gap)
    took = {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "p50": sorted(calls)[len(calls) // 2],
        "number": number,
    }
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
