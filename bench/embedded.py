"""The database of a fresh clone: SQLite, with four processes that ask while four run."""

from __future__ import annotations

from bench.stage import Stage
from bench.workloads import Figures

PROCESSES = 4


def sqlite(stage: Stage, _who: str, number: int) -> Figures:
    """Store half of the tasks at rest and half while four children run them."""
    stage.clear()
    environment = stage.new_sqlite()
    said = len(stage.said())
    half = number // 2
    asked = _ask(stage, half, environment)
    stage.start(stage.ours, "-c", str(PROCESSES), env=environment)
    stage.wait_for(int(half * 0.2))
    first = stage.done()
    with stage.meter() as spent:
        asked_meanwhile = _ask(stage, half, environment)
        stage.wait_for(half // PROCESSES * PROCESSES * 2)
    stage.stop()
    return {
        "per_second": (stage.done() - first) / spent["seconds"],
        "cpu_ms": 1000 * spent["cpu"] / (stage.done() - first),
        "enqueue_per_s": asked,
        "enqueue_busy_per_s": asked_meanwhile,
        "locked": stage.said()[said:].count("database is locked"),
        "foreign": spent["foreign"],
    }


def _ask(stage: Stage, number: int, environment: dict[str, str]) -> float:
    """Let four processes ask at once; return how many they stored in a second."""
    with stage.meter() as spent:
        ends = [
            stage.begin(
                *("python", "-m", "bench.feeding", stage.ours.module),
                *(str(number // PROCESSES), "0"),
                env=environment,
            )
            for _ in range(PROCESSES)
        ]
        for end in ends:
            end()
    return number / spent["seconds"]
