"""Whether a ledger after years of use, a full type at its head, costs more than an empty one.

Run as a module it fills the database: ``python -m bench.grown ROWS``, or takes away what a round
has left: ``python -m bench.grown clean``.
"""

from __future__ import annotations

import json
import sys

from bench.stage import Stage
from bench.workloads import Figures, emptied, percentile, waited

#: Rows that have ended, and one tenth as many that wait behind a limit.
SIZES = {"empty": 0, "small": 100_000, "large": 1_000_000, "full": 10_000_000}
#: Tasks that are run, and tasks whose start is looked at.
TASKS, STARTS = 2000, 100
#: Waiting tasks of an empty ledger: each round uses one up.
FEWEST = 100
HELD = "bench.bodies.hold"
TIMED = "celery -A bench.timed worker -c 3 -l WARNING -Q default --without-gossip --without-mingle"


def grown(stage: Stage, who: str, scale: float) -> Figures:
    """Drain no-ops past a full type, on a ledger of its own for each size."""
    rows = int(SIZES[who] * scale)
    database = f"grown-{who}"
    if not stage.has_database(database):
        stage.clear()
        stage.sql(
            f'CREATE DATABASE "{database}" TEMPLATE "{stage.ours.name}"',
            database="postgres",
        )
        stage.run("python", "-m", "bench.grown", str(rows), env=_at(stage, database))
    found = _measure(stage, database, max(20, int(TASKS * min(1, scale * 10))))
    return {**found, "rows": rows + rows // 10}


def _at(stage: Stage, database: str) -> dict[str, str]:
    return {"DATABASE_URL": stage.database_url(database)}


def _measure(stage: Stage, database: str, number: int) -> Figures:
    where = _at(stage, database)
    stage.redis.flush()
    stage.record.unlink(missing_ok=True)
    passes = stage.directory / "passes"
    passes.unlink(missing_ok=True)
    stage.feed(stage.ours, number, env=where)
    stage.start_one(
        stage.ours, TIMED, env={**where, "TASKCONTROL_BENCH_PASSES": str(passes)}
    )
    found = emptied(stage, number)
    found |= {
        f"start_{name}": value
        for name, value in waited(stage, stage.ours, min(STARTS, number), env=where).items()
    }
    stage.kill()
    times = sorted(map(float, passes.read_text().split()))
    stage.run("python", "-m", "bench.grown", "clean", env=where)
    return {
        "cpu_ms": found["cpu_ms"],
        "postgres_ms": found["postgres_ms"],
        "per_second": found["per_second"],
        "start_p50_ms": found["start_p50_ms"],
        "start_p99_ms": found["start_p99_ms"],
        "pass_p50_ms": 1000 * percentile(times, 0.5),
        "pass_p95_ms": 1000 * percentile(times, 0.95),
        "foreign": found["foreign"],
    }


def fill_all(rows: int) -> int:
    """Store what has ended and, before all that will come, what waits; return its number."""
    from django.db import connection

    from bench.ledger import add
    from taskcontrol import dialect
    from taskcontrol.conf import conf
    from taskcontrol.lanes import lane_of
    from taskcontrol.models import DispatcherState, TaskType
    from taskcontrol.suspension import dispatcher_state

    TaskType.objects.update_or_create(method=HELD, defaults={"concurrency_limit": 1})
    lane = str(lane_of("default", HELD, None))
    waiting = {"method": f"'{HELD}'", "lane": lane, "ready_lane": lane, "position": "n"}
    add(rows, ended=100)
    add(
        max(FEWEST, rows // 10),
        ended=0,
        **waiting,
        queue="'default'",
        arguments="'{}'",
        job_id="NULL",
        batch_id="NULL",
    )
    # As if what ended had been counted while it did.
    dispatcher_state()
    DispatcherState.objects.update(rolled_until=dialect.now(conf.DATABASE))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    return rows


def clean() -> int:
    """Take away what a round has left, and leave the rest of the ledger alone."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM taskcontrol_tasklog WHERE method = 'bench.bodies.noop' OR "
            "(method = %s AND status <> 'Pending')",
            [HELD],
        )
        gone = int(cursor.rowcount)
        cursor.execute("DELETE FROM taskcontrol_worker")
        cursor.execute("VACUUM taskcontrol_tasklog")
    return gone


def main() -> None:
    """Fill or clean."""
    import django

    django.setup()
    done = clean() if sys.argv[1] == "clean" else fill_all(int(sys.argv[1]))
    sys.stdout.write(json.dumps({"rows": done}) + "\n")


if __name__ == "__main__":
    main()
