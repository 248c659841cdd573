"""Times what must stay flat, in a process of its own: ``python -m bench.asking ROWS``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Any

#: Calls of one question in one round, the best of which counts: other work on the machine
#: only makes them slower. Fewer of what takes long.
CALLS, FEW = 25, 2
NOTHING_DUE, OLD_DUE = "prune 100 types, nothing due", "the same, 500 tasks due"
SLOW = (NOTHING_DUE, OLD_DUE)


def questions() -> dict[str, Callable[[], Any]]:
    """Return each question by the words of the table."""
    import taskcontrol
    from bench import bodies
    from taskcontrol.dispatch import dispatch_pending
    from taskcontrol.monitoring import snapshot
    from taskcontrol.pruning import prune_ended_tasks

    fresh = count(1)

    def once(key: str, **options: Any) -> Any:
        return taskcontrol.enqueue(
            bodies.noop, asked_at=0.0, job_id=key, deduplicate=True, **options
        )

    once("held")
    return {
        "enqueue": lambda: taskcontrol.enqueue(bodies.noop, asked_at=0.0),
        "enqueue, deduplicated, key free": lambda: once(f"fresh-{next(fresh)}"),
        "enqueue, deduplicated, key held": lambda: once("held"),
        'enqueue, on_duplicate="replace"': lambda: once("held", on_duplicate="replace"),
        "is_job_enqueued": lambda: taskcontrol.is_job_enqueued("hourly"),
        "get_job": lambda: taskcontrol.get_job("hourly"),
        "get_job_status": lambda: taskcontrol.get_job_status("job-400"),
        "get_jobs(queue)[:50]": lambda: list(taskcontrol.get_jobs("default")[:50]),
        "get_jobs()[:50]": lambda: list(taskcontrol.get_jobs()[:50]),
        "get_workers": taskcontrol.get_workers,
        "a pass that promotes nothing": dispatch_pending,
        NOTHING_DUE: prune_ended_tasks,
        OLD_DUE: prune_ended_tasks,
        "taskcontrol status": snapshot,
    }


def prepare(name: str) -> None:
    """Store what a question takes away."""
    from bench.ledger import make_old

    if name == OLD_DUE:
        make_old(500)


def milliseconds(ask: Callable[[], Any]) -> float:
    """Return what one call takes."""
    began = time.perf_counter()
    ask()
    return 1000 * (time.perf_counter() - began)


def pages() -> int:
    """Return how many pages the database has looked at so far, in memory or on disk."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT blks_hit + blks_read FROM pg_stat_database "
            "WHERE datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def measured(name: str, ask: Callable[[], Any]) -> tuple[float, float]:
    """Return the least milliseconds and pages of one call."""
    ask()  # imports, connections, plans
    pages()
    idle = -pages() + pages()
    times, looked_at = [], []
    for _ in range(FEW if name in SLOW else CALLS):
        prepare(name)
        before = pages()
        times.append(milliseconds(ask))
        looked_at.append(pages() - before - idle)
    return min(times), max(0, min(looked_at))


def main() -> None:
    """Fill the ledger, ask, and print milliseconds and pages of each question."""
    import django

    django.setup()
    from bench.ledger import fill

    fill(int(sys.argv[1]))
    took = {name: measured(name, ask) for name, ask in questions().items()}
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
