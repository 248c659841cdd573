"""What runs take of memory, whether any is left, and processes that died for it."""

from __future__ import annotations

import mmap
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
#: Where the kernel counts how many processes it has killed for their memory: on the machine,
#: and in this process's own control group (a container, a service of systemd).
_MACHINE = Path("/proc/vmstat")
_GROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_OLDER = "memory.oom_control"
#: The line that says so, in each of these files.
_COUNT = "oom_kill "
#: Bytes without which no task can be claimed and no end be written.
_LEAST = 4 << 20


def reset_peak() -> None:
    """Lower this process's high-water mark to what it uses now, where Linux allows it.

    Without this the mark is the highest of all runs before: a small task after a big one
    would seem as big.
    """
    try:
        os.write(_clear_refs(), b"5")
    except OSError:
        return


class _Opened:
    """The open file, and the process that it is about."""

    file, pid, identity = -1, 0, (0, 0)


def _clear_refs() -> int:
    """Open the file once: that costs ten times what it is for. A fork needs its own.

    A body may have closed it, and the number may be another file's by now.
    """
    if _Opened.pid != os.getpid() or _identity(_Opened.file) != _Opened.identity:
        _Opened.pid = 0
        _Opened.file = os.open(_CLEAR, os.O_WRONLY)
        _Opened.identity = _identity(_Opened.file)
        _Opened.pid = os.getpid()
    return _Opened.file


def _identity(file: int) -> tuple[int, int]:
    try:
        found = os.fstat(file)
    except OSError:
        return (-1, -1)
    return (found.st_dev, found.st_ino)


def peak_kb() -> int:
    """Return the high-water mark of this process in KB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def is_left() -> bool:
    """Return whether this process may take some more memory; nothing is touched.

    A body may have used up the limit of the process, also without an error of its own.
    """
    try:
        mmap.mmap(-1, _LEAST).close()
    except (OSError, MemoryError):
        return False
    return True


class KillsForMemory:
    """Tells of a process that was killed whether the kernel did it because memory was short.

    The kernel counts these kills and names no process, so one that happened just before, in
    the same control group or else on the same machine, is taken for the one that is asked
    about: once, and not for longer than between two looks.
    """

    def __init__(self) -> None:
        #: The first file that has the count.
        self.counter = next(filter(_counts, [*_of_own_group(), _MACHINE]), _MACHINE)
        self._seen = self._explained = _kills(self.counter)

    def look(self) -> None:
        """Forget what happened before the last look."""
        self._explained = max(self._explained, self._seen)
        self._seen = _kills(self.counter)

    def explain_one(self) -> bool:
        """Return whether one has happened of which nobody was told yet."""
        if _kills(self.counter) <= self._explained:
            return False
        self._explained += 1
        return True


def _of_own_group() -> Iterator[Path]:
    """Yield where the kernel may count for this process's own group, the newer kind first.

    A container sees its own group as the root, whatever its path is outside.
    """
    groups = [line.split(":", 2)[1:] for line in _lines(_MEMBERSHIP)]
    for kinds, path in sorted(groups):
        own = path.strip("/")
        if not kinds:
            yield _GROUPS / own / "memory.events"
            yield _GROUPS / "memory.events"
        elif "memory" in kinds.split(","):
            yield _GROUPS / "memory" / own / _OLDER
            yield _GROUPS / "memory" / _OLDER


def _counts(path: Path) -> bool:
    return any(line.startswith(_COUNT) for line in _lines(path))


def _kills(path: Path) -> int:
    """Return how many there were; 0 where nobody counts them.

    The newer kind counts for the groups below, too.
    """
    files = path.parent.rglob(_OLDER) if path.name == _OLDER else [path]
    lines = [line for file in files for line in _lines(file)]
    return sum(int(line.split()[1]) for line in lines if line.startswith(_COUNT))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
