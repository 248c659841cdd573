"""What every contender is asked to do: each workload runs once and returns its figures.

A figure ``name@x`` is a point of a curve and stands in no table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench.commands import Env
from bench.peers import Peer
from bench.stage import Stage

#: Part of a drain that is left out: imports and the first connections.
WARM = 0.1
#: Seconds for which a worker stands still before that is measured.
SETTLE = 6
#: Tasks with which a worker and who asks for them connect to what they need.
FIRST = 5
#: Steps in which memory is looked at.
STEPS = 10
SERVERS = ("redis", "postgres")

Figures = dict[str, float]


def enqueue(stage: Stage, peer: Peer, number: int) -> Figures:
    """Ask one by one, nothing consuming: the row and the wake-up, or the message."""
    stage.clear(peer)
    return _asked(stage, peer, number, many=False)


def many(stage: Stage, peer: Peer, number: int) -> Figures:
    """Ask for many in the quickest way that the contender offers, nothing consuming."""
    stage.clear(peer)
    return _asked(stage, peer, number, many=True)


def _asked(stage: Stage, peer: Peer, number: int, *, many: bool) -> Figures:
    with stage.meter() as spent:
        took = stage.feed(peer, number, many=many)
    servers = sum(spent[name] for name in SERVERS)
    found = {
        "per_second": took["number"] / took["seconds"],
        "cpu_ms": 1000 * (took["cpu"] / took["number"] + servers / number),
        "foreign": spent["foreign"],
    }
    return {**found, "p50_ms": 1000 * took["p50"]} if "p50" in took else found


def drain(stage: Stage, peer: Peer, number: int) -> Figures:
    """Fill the queue, then let two children empty it."""
    stage.clear(peer)
    stage.feed(peer, number)
    stage.analyze(peer)
    stage.start(peer)
    found = emptied(stage, number, peer)
    stage.stop()
    return found


def emptied(stage: Stage, number: int, peer: Peer | None = None) -> Figures:
    """Return what it takes until ``number`` bodies have run, without the first of them.

    ``peer``: and until it has written down the end of each, if it does such a thing.
    """
    stage.wait_for(int(number * WARM))
    first = stage.done()
    with stage.meter() as spent:
        stage.wait_for(number)
        if peer is not None and peer.ended:
            stage.wait_until_written(peer, number)
    ran = max(1, number - first)
    parts = {f"{name}_ms": 1000 * spent[name] / ran for name in ("cpu", "worker", *SERVERS)}
    return {"per_second": ran / spent["seconds"], **parts, "foreign": spent["foreign"]}


def latency(stage: Stage, peer: Peer, number: int) -> Figures:
    """Ask for one task at a time, 20 a second, of an idle worker."""
    stage.clear(peer)
    stage.start(peer)
    found = waited(stage, peer, number)
    stage.stop()
    return found


def waited(stage: Stage, peer: Peer, number: int, env: Env = None) -> Figures:
    """Return how long tasks wait for an idle worker: call of enqueue to start of body."""
    before = stage.done()
    stage.feed(peer, FIRST, 0.3, env=env)  # until the worker answers
    stage.wait_for(before + FIRST)
    with stage.meter() as spent:
        stage.feed(peer, FIRST + number, 0.05, env=env)
        stage.wait_for(before + FIRST + FIRST + number)
    counted = stage.records()[before + FIRST + FIRST :]
    waits = sorted(began - asked for asked, began in counted)
    return {
        "p50_ms": 1000 * percentile(waits, 0.5),
        "p99_ms": 1000 * percentile(waits, 0.99),
        "foreign": spent["foreign"],
    }


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value below which ``part`` of the sorted ``values`` lie."""
    return values[min(len(values) - 1, int(len(values) * part))]


def idle(stage: Stage, peer: Peer, seconds: int) -> Figures:
    """Let the whole stack stand still: worker, beat, servers."""
    stage.clear(peer)
    stage.start(peer)
    stage.start_beat(peer)
    stage.feed(peer, 3, 0.3)
    stage.wait_for(3)
    time.sleep(min(SETTLE, seconds / 3))
    with stage.meter() as spent:
        time.sleep(seconds)
    parts = ("cpu", "worker", "beat", *SERVERS)
    found = {f"{name}_ms_per_s": 1000 * spent[name] / seconds for name in parts}
    if peer.tables:
        with stage.statements() as heard:
            time.sleep(seconds)
        found["sql_per_s"] = sum(heard.values()) / seconds
        most = max(heard.values(), default=0)
        found["same_sql_per_s"] = most / seconds
    stage.stop()
    return {**found, "foreign": spent["foreign"]}


def memory(stage: Stage, peer: Peer, number: int) -> Figures:
    """Look at the memory of a worker's processes while it runs many tasks."""
    stage.clear(peer)
    stage.start(peer)
    found: Figures = {}
    first: tuple[float, float] | None = None
    steps = STEPS if number > 100 * STEPS else 2
    for step in range(1, steps + 1):
        stage.feed(peer, number // steps)
        stage.wait_for(number // steps * step)
        main, *children = stage.memory()
        sizes = main, max(children, default=main)
        first = first or sizes
        at = number // steps * step
        found |= {f"main_mb@{at}": sizes[0], f"child_mb@{at}": sizes[1]}
        found |= {
            "main_mb": sizes[0],
            "child_mb": sizes[1],
            "all_mb": main + sum(children),
            "main_grown_mb": sizes[0] - first[0],
            "child_grown_mb": sizes[1] - first[1],
        }
    stage.stop()
    return found
