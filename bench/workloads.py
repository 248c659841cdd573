"""What is measured: each workload runs once for one contender and returns its figures."""

from __future__ import annotations

import time

from bench.stage import Stage

#: Part of a drain that is left out: imports and the first connections.
WARM = 0.1


def enqueue(stage: Stage, contender: str, number: int) -> dict[str, float]:
    """Enqueue one by one, nothing consuming: the row and the wake-up, or the message."""
    stage.clear()
    before = stage.cpu()
    took = stage.feed(contender, number)
    after = stage.cpu()
    servers = sum(after[name] - before[name] for name in ("redis", "postgres"))
    return {
        "per_second": took["number"] / took["seconds"],
        "p50_ms": 1000 * took["p50"],
        "cpu_ms": 1000 * (took["cpu"] / took["number"] + servers / number),
    }


def drain(stage: Stage, contender: str, number: int) -> dict[str, float]:
    """Fill the queue, then let two children empty it."""
    stage.clear()
    stage.feed(contender, number)
    stage.analyze()
    stage.start_worker(contender)
    stage.wait_for(int(number * WARM))
    began, first, before = time.perf_counter(), stage.done(), stage.cpu()
    stage.wait_for(number)
    seconds, after = time.perf_counter() - began, stage.cpu()
    memory = stage.memory()
    stage.stop_worker()
    ran = number - first
    cpu = {name: 1000 * (after[name] - before[name]) / ran for name in after}
    return {
        "per_second": ran / seconds,
        "cpu_ms": sum(cpu.values()),
        **{f"cpu_{name}_ms": value for name, value in cpu.items()},
        "memory_mb": sum(memory),
    }


def latency(stage: Stage, contender: str, number: int) -> dict[str, float]:
    """Ask for one task at a time, 20 a second, of an idle worker."""
    stage.clear()
    stage.start_worker(contender)
    stage.feed(contender, 5, 0.3)  # until the worker answers
    stage.wait_for(5)
    stage.feed(contender, number, 0.05)
    stage.wait_for(number + 5)
    waits = sorted(began - asked for asked, began in stage.records()[5:])
    stage.stop_worker()
    return {
        "p50_ms": 1000 * waits[len(waits) // 2],
        "p99_ms": 1000 * waits[int(len(waits) * 0.99)],
    }


def idle(stage: Stage, contender: str, seconds: int) -> dict[str, float]:
    """Let a worker stand still."""
    stage.clear()
    stage.start_worker(contender)
    stage.feed(contender, 3, 0.3)
    stage.wait_for(3)
    time.sleep(6)
    before = stage.cpu()
    time.sleep(seconds)
    after = stage.cpu()
    stage.stop_worker()
    return {"cpu_ms_per_second": 1000 * sum(after[n] - before[n] for n in after) / seconds}


def bulk(stage: Stage, contender: str, number: int) -> dict[str, float]:
    """Store many at once, from a generator; *plain* is Django's bulk_create of such rows."""
    stage.clear()
    return _rate(stage.bulk(contender, number), number)


def bulk_on_sqlite(stage: Stage, contender: str, number: int) -> dict[str, float]:
    """Do the same on SQLite."""
    return _rate(stage.bulk(contender, number, **stage.new_sqlite()), number)


def _rate(took: dict[str, float], number: int) -> dict[str, float]:
    return {
        "per_second": number / took["seconds"],
        "cpu_ms": 1000 * took["cpu"] / number,
        "grown_mb": took["grown_mb"],
    }


WORKLOADS = {
    "enqueue": enqueue,
    "drain": drain,
    "latency": latency,
    "idle": idle,
    "bulk": bulk,
    "bulk-sqlite": bulk_on_sqlite,
}
