"""Which bodies are alive at the same moment, told by locks that the kernel takes back.

A body that is killed cannot say when it ended, and who looks for its process looks too late.
Each holds a byte of one file locked while it runs, and the kernel frees it with the process:
so a body that begins sees exactly who else is there.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from taskcontrol.context import current_task
from tests.lab import LAB

_FLOCK = "hhqqi4x"
#: Attempts of one task, each with a byte of its own.
ATTEMPTS = 1000


@contextmanager
def in_company(kind: str) -> Iterator[list[tuple[int, int]]]:
    """Be seen during the block; gives (task, attempt) of all that are there, this one too."""
    task = current_task()
    assert task is not None
    mine = task.id * ATTEMPTS + task.attempt
    fd = os.open(LAB / f"company-{kind}", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, mine)
        yield sorted({divmod(one, ATTEMPTS) for one in [mine, *_others(fd)]})
    finally:
        os.close(fd)


def _others(fd: int) -> Iterator[int]:
    """Find the locked bytes one after the other; who asks does not see its own.

    Asked for all bytes, the kernel names one lock that is there; then the rest on both
    sides of it is asked for.
    """
    ranges = [(0, 0)]
    while ranges:
        start, length = ranges.pop()
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        answer = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, question))
        kind, _whence, found = answer[:3]
        if kind == fcntl.F_UNLCK:
            continue
        yield found
        if found > start:
            ranges.append((start, found - start))
        if not length or found + 1 < start + length:
            ranges.append((found + 1, length and start + length - found - 1))
