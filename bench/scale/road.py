"""What one task writes on its road, what is left of it, and what sweeps over many cost.

``python -m bench.scale.road N`` walks with N tasks one by one, and fills the ledger with more.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.scale.scenes import Scene
from bench.scale.simulated import Simulated, settle
from bench.workloads import Figures

#: For each task that walks one by one, so many go in bulk to see what is left of them, so many
#: that ended in one minute are counted, and so many old ones are pruned.
BULK, COUNTED, OLD = 25, 25, 10
#: Tasks that run at the same time while the ledger is filled, and that end between two vacuums.
WAVE, VACUUM = 2000, 10_000
PAGE = 500
TOTALS = """
SELECT PG_CURRENT_WAL_INSERT_LSN() - '0/0', xact_commit FROM pg_stat_database
WHERE datname = CURRENT_DATABASE()
"""
SIZES = (
    "SELECT PG_TABLE_SIZE('taskcontrol_tasklog'), PG_INDEXES_SIZE('taskcontrol_tasklog')"
)
#: The largest indexes, by the part of the name that tells them apart.
INDEXES = """
SELECT REPLACE(REPLACE(relname, 'taskcontrol_task_', ''), 'taskcontrol_tasklog_', ''),
    PG_RELATION_SIZE(oid)
FROM pg_class WHERE relkind = 'i' AND relname LIKE 'taskcontrol_task%'
    AND oid IN (SELECT indexrelid FROM pg_index
        WHERE indrelid = 'taskcontrol_tasklog'::regclass)
ORDER BY 2 DESC LIMIT 6
"""


class Book:
    """What each step cost PostgreSQL and this process, by the name of the step."""

    def __init__(self) -> None:
        from bench.refereed import backend_process

        self.backend = backend_process()
        self.steps: dict[str, Figures] = {}

    @contextmanager
    def step(self, name: str, number: int) -> Iterator[None]:
        """Note what the block costs for each of ``number`` tasks."""
        wal, commits = self._totals()
        backend, cpu = sum(self.backend.cpu_times()[:2]), time.process_time()
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        cpu = time.process_time() - cpu
        backend = sum(self.backend.cpu_times()[:2]) - backend
        now_wal, now_commits = self._totals()
        self.steps[name] = {
            "wal_bytes": (now_wal - wal) / number,
            # The look itself is one.
            "transactions": (now_commits - commits - 1) / number,
            "postgres_us": 1e6 * backend / number,
            "python_us": 1e6 * cpu / number,
            "wall_us": 1e6 * seconds / number,
            "seconds": seconds,
            "number": number,
        }

    def _totals(self) -> tuple[int, int]:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT PG_STAT_FORCE_NEXT_FLUSH()")
            cursor.execute(TOTALS)
            wal, commits = cursor.fetchone()
        return int(wal), int(commits)


def site(places: int) -> Simulated:
    """Return workers with so many slots, and nothing that waits."""
    made = Simulated(Scene(workers=10, slots=max(1, places // 10), types=1, waiting=0))
    made.build()
    return made


def walk(book: Book, here: Simulated, number: int, *, name: str = "") -> None:
    """Take tasks one by one from the call of enqueue to the end, as workers do."""
    import taskcontrol
    from bench.bodies import noop
    from taskcontrol import lifecycle
    from taskcontrol.dispatch import make_pass

    worker = next(here.workers)
    with book.step(f"{name}enqueue", number):
        tasks = [taskcontrol.enqueue(noop, asked_at=1.0) for _ in range(number)]
    with book.step(f"{name}dispatch", number), here.in_place_of_the_broker():
        make_pass()
    sent, here.sent = here.sent, []
    if len(sent) != len(tasks):
        raise RuntimeError(f"{len(sent)} of {number} tasks were promoted")
    with book.step(f"{name}claim", number):
        won = [lifecycle.claim(one, 1, worker_id=worker, pid=1) for one in sent]
    with book.step(f"{name}end", number):
        ended = [_end(one) for one in sent]
    if not all(won) or not all(ended):
        raise RuntimeError("not every task was claimed and ended")


def _end(task_id: int) -> bool:
    from datetime import timedelta

    from taskcontrol import lifecycle

    told: dict[str, Any] = {"result": None, "debug_log": "", "peak_memory_usage": 50_000}
    return lifecycle.finish(task_id, 1, time_taken=timedelta(milliseconds=20), **told)


def fill(here: Simulated, number: int) -> None:
    """Let so many tasks go their road in bulk: the same versions of each row as one by one."""
    import taskcontrol
    from bench.bodies import noop
    from taskcontrol.dispatch import make_pass

    wave = min(WAVE, here.scene.places)
    for done in range(0, number, wave):
        times = ({"asked_at": 1.0} for _ in range(min(wave, number - done)))
        taskcontrol.bulk_enqueue(times, method=noop)
        with here.in_place_of_the_broker():
            make_pass()
        here.start()
        here.end(wave)
        if done % VACUUM < wave:
            here.connection.execute("VACUUM ANALYZE taskcontrol_tasklog")


def left(here: Simulated) -> dict[str, Any]:
    """Return the bytes of a row of the ledger and of its indexes."""
    rows = _one(here, "SELECT COUNT(*) FROM taskcontrol_tasklog")[0]
    table, indexes = _one(here, SIZES)
    largest = here.connection.execute(INDEXES).fetchall()
    return {
        "rows": rows,
        "table_bytes": int(table) / rows,
        "index_bytes": int(indexes) / rows,
        "largest": {name: size / rows for name, size in largest},
    }


def _one(here: Simulated, sql: Any) -> tuple[Any, ...]:
    row = here.connection.execute(sql).fetchone()
    return row if row is not None else ()


def count_and_prune(book: Book, number: int) -> None:
    """Count a minute in which many ended, and delete old ones as beat lets it be done."""
    from django.db import connection

    from bench.ledger import add, make_old
    from taskcontrol.models import DispatcherState, TaskLog
    from taskcontrol.pruning import prune_ended_tasks
    from taskcontrol.rollup import roll_up

    minute = "DATE_TRUNC('minute', NOW()) - INTERVAL '5 minutes'"
    counted, old = number * COUNTED, number * OLD
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE taskcontrol_tasklog")
        add(counted, ended=100, ended_at=f"{minute} + n % 60 * INTERVAL '1 second'")
        cursor.execute("VACUUM ANALYZE taskcontrol_tasklog")
        cursor.execute(f"SELECT {minute}")
        DispatcherState.objects.update(rolled_until=cursor.fetchone()[0])
    with book.step("count", counted):
        roll_up(seconds=0.0)
    make_old(old)
    before = TaskLog.objects.count()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE taskcontrol_tasklog")
    with book.step("prune", old):
        prune_ended_tasks()
    gone = before - TaskLog.objects.count()
    if gone != old:
        raise RuntimeError(f"{gone} of {old} old tasks were pruned")


def publish(number: int, page: int) -> Figures:
    """Return what a message costs this process by the real way to the broker."""
    from taskcontrol import broker

    messages = [
        broker.Message(one, 1, "default", f"bench-{one}-1", 300.0) for one in range(page)
    ]
    broker.publish(messages)
    rounds = max(1, number // page)
    cpu, began = time.process_time(), time.perf_counter()
    for _ in range(rounds):
        broker.publish(messages)
    return {
        "python_us": 1e6 * (time.process_time() - cpu) / (rounds * page),
        "wall_us": 1e6 * (time.perf_counter() - began) / (rounds * page),
        "number": rounds * page,
    }


def main(number: int) -> dict[str, Any]:
    """Walk, fill, count, prune and publish."""
    import django

    django.setup()
    from taskcontrol.suspension import dispatcher_state

    dispatcher_state()
    settle(PAGE)
    here, book = site(number), Book()
    confirm()
    walk(book, here, max(1, number // 10), name="first ")  # whole pages, new plans
    walk(book, here, number)
    fill(here, number * BULK)
    here.connection.execute("VACUUM ANALYZE taskcontrol_tasklog")
    ledger = left(here)
    count_and_prune(book, number)
    steps = {name: one for name, one in book.steps.items() if not name.startswith("first")}
    return {"steps": steps, "ledger": ledger, "publish": publish(number * 5, PAGE)}


def confirm() -> None:
    """Say that the code of the body's type was looked into, as a worker's child does."""
    from taskcontrol.models import TaskType

    TaskType.objects.update_or_create(method="bench.bodies.noop", defaults={"declared": {}})


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]))) + "\n")
