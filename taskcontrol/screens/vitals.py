"""Says in words how a worker stands: its state, its memory, its clock, its versions."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext as _

from ..conf import conf
from ..models import seconds
from ..wording import duration
from .presentation import EMPTY, memory, visible

#: Seconds by which a machine's clock may be off unsaid, and before the screen warns.
CLOCK_RIGHT, CLOCK_OFF = 0.01, 1.0


def state_of(worker: Any) -> tuple[str, str]:
    """Return the state of a worker as a word and as its color."""
    silent = worker.read_at - worker.last_seen_at > seconds(conf.WORKER_LOST_AFTER)
    states = (
        (worker.lost_at, _("lost"), "failed"),
        (worker.left_at, _("left"), "canceled"),
        (silent, _("silent"), "failed"),
        (worker.leaving_at, _("leaving"), "paused"),
        (not worker.consuming, _("not consuming"), "paused"),
    )
    for holds, word, color in states:
        if holds:
            return word, color
    return _("live"), "live"


def is_gone(worker: Any) -> bool:
    """Return whether nothing more is to be heard of a worker."""
    return worker.left_at is not None or worker.lost_at is not None


def memory_of_all(worker: Any) -> str:
    """Return the memory of the main process and its children together."""
    children = sum(child.get("memory_kb", 0) for child in worker.children)
    return memory(None if worker.memory_kb is None else worker.memory_kb + children)


def memory_of_process(worker: Any, pid: int | None) -> str:
    """Return the memory of one process of a worker, as it last told."""
    if worker is None or pid is None:
        return EMPTY
    known = {child.get("pid"): child.get("memory_kb") for child in worker.children}
    return memory(known.get(pid) or (worker.memory_kb if pid == worker.pid else None))


def processor(worker: Any) -> str:
    """Return how much of a processor the main process takes."""
    return "" if worker.cpu_percent is None else f"{worker.cpu_percent:,.0f} % CPU"


def clock(worker: Any) -> str:
    """Return how far the clock of a worker's machine is from the database's."""
    offset = worker.clock_offset
    if offset is None:
        return EMPTY
    if abs(offset) < CLOCK_RIGHT:
        return _("right")
    told = _("%(time)s ahead") if offset > 0 else _("%(time)s behind")
    return told % {"time": duration(abs(offset))}


def clock_is_off(worker: Any) -> bool:
    """Return whether the clock of its machine is wrong enough to mislead people."""
    return worker.clock_offset is not None and abs(worker.clock_offset) > CLOCK_OFF


def versions(worker: Any) -> str:
    """Return what a worker runs."""
    return visible(
        ", ".join(f"{name} {version}" for name, version in worker.versions.items())
    )
