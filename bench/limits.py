"""Four workers and a thousand types, with and without limits; ``python -m bench.limits``.

Run as a module it stores the types and the tasks: ``free`` or ``limited``, and how many.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from bench.bodies import SPELL
from bench.manytypes import LIMIT, LIMITED, TYPES
from bench.stage import Stage
from bench.workloads import WARM, Figures

WORKERS = 4
#: Tasks of one type that stand one behind the other.
RUN = 10


def limits(stage: Stage, who: str, number: int) -> Figures:
    """Let four workers empty a queue of a thousand types; count who ran at the same time."""
    spells = stage.record.with_name(f"{stage.record.name}.spells")
    spells.unlink(missing_ok=True)
    stage.clear()
    stage.python("bench.limits", who, number)
    stage.analyze(stage.ours)
    for worker in range(WORKERS):
        stage.start(stage.ours, "-n", f"w{worker}@%h")
    first = int(number * WARM)
    _wait(spells, first)
    with stage.meter() as spent:
        _wait(spells, number)
    stage.stop()
    stage.sql("DELETE FROM taskcontrol_tasktype WHERE method LIKE 'bench.manytypes.%'")
    ran = sorted(SPELL.iter_unpack(spells.read_bytes()), key=lambda one: one[2])
    found = {
        "per_second": (len(ran) - first) / (ran[-1][2] - ran[first][2]),
        "cpu_ms": 1000 * spent["cpu"] / (len(ran) - first),
        "most_together": max(most_together(ran, LIMITED), default=0),
        "foreign": spent["foreign"],
    }
    if who == "limited":
        beyond = (max(0, one - LIMIT) for one in most_together(ran, LIMITED))
        found["beyond_limit"] = sum(beyond)
    return found


def _wait(spells: Any, number: int) -> None:
    seen, end = -1, 0.0
    while (size := spells.stat().st_size if spells.exists() else 0) < number * SPELL.size:
        if size != seen:
            seen, end = size, time.monotonic() + 600
        if time.monotonic() > end:
            raise TimeoutError(f"{size // SPELL.size} of {number} bodies ran")
        time.sleep(0.02)


def most_together(ran: Iterable[tuple[float, ...]], kinds: Iterable[int]) -> Iterator[int]:
    """Return for each kind how many bodies of it ran at the same time, at most."""
    moments: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for kind, began, ended in ran:
        moments[int(kind)] += [(began, 1), (ended, -1)]
    for kind in kinds:
        running = most = 0
        for _, step in sorted(moments[kind]):
            running += step
            most = max(most, running)
        yield most


def store(who: str, number: int) -> Counter[str]:
    """Store the types, with limits or without, and the tasks; return their numbers."""
    from taskcontrol import bulk_enqueue
    from taskcontrol.models import TaskType

    limited = LIMITED if who == "limited" else ()
    kinds = [f"bench.manytypes.t{kind}" for kind in range(TYPES)]
    TaskType.objects.filter(method__in=kinds).delete()
    TaskType.objects.bulk_create(
        TaskType(method=method, concurrency_limit=LIMIT if kind in limited else 0)
        for kind, method in enumerate(kinds)
    )
    bulk_enqueue({"method": kinds[n // RUN % TYPES]} for n in range(number))
    return Counter(types=len(kinds), limited=len(limited), tasks=number)


def main() -> None:
    """Store, and print how many."""
    import django

    django.setup()
    sys.stdout.write(json.dumps(store(sys.argv[1], int(sys.argv[2]))) + "\n")


if __name__ == "__main__":
    main()
