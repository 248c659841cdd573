"""The peak memory of one run in a process that runs many."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")


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
