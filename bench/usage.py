"""CPU and memory of whole process trees."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU seconds of the trees below ``roots``, children that ended included."""
    return sum(_cpu(process) for process in _trees(roots))


def busy_seconds() -> float:
    """Return the CPU seconds so far of everything that runs on this machine."""
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def memory_mb(roots: Iterable[int]) -> list[float]:
    """Return the resident megabytes of each process, parents first."""
    sizes = []
    for process in _trees(roots):
        with suppress(psutil.NoSuchProcess):
            sizes.append(round(process.memory_info().rss / 2**20, 1))
    return sizes


def _trees(roots: Iterable[int]) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for pid in roots:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found += [root, *root.children(recursive=True)]
    return found


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(
            times.user + times.system + times.children_user + times.children_system
        )
    return 0.0
