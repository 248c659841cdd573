"""The peak memory of one run in a process that runs many, and processes that died for memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
#: Has a line on how many processes of this machine the kernel has killed for their memory.
_STATISTICS = Path("/proc/vmstat")


def reset_peak() -> None:
    """Lower this process's high-water mark to what it uses now, where Linux allows it.

    Without this the mark is the highest of all runs before: a small task after a big one
    would seem as big.
    """
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def peak_kb() -> int:
    """Return the high-water mark of this process in KB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


class KillsForMemory:
    """Tells of a process that was killed whether the kernel did it because memory was short.

    The kernel counts these kills and names no process, so one that happened on this machine
    just before is taken for the one that is asked about: once, and not for longer than
    between two looks.
    """

    def __init__(self) -> None:
        self._seen = self._explained = _kills()

    def look(self) -> None:
        """Forget what happened before the last look."""
        self._explained = max(self._explained, self._seen)
        self._seen = _kills()

    def explain_one(self) -> bool:
        """Return whether one has happened of which nobody was told yet."""
        if _kills() <= self._explained:
            return False
        self._explained += 1
        return True


def _kills() -> int:
    """Return how many there were since the machine started; 0 where nobody counts them."""
    try:
        lines = _STATISTICS.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
