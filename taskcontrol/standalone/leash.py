"""Lets a child process die with its parent, also when the parent is killed with SIGKILL."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
# Loaded here, because a forked child should not load anything before it executes.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def leash(signum: signal.Signals) -> Callable[[], None]:
    """Return what a forked child calls before it executes; other systems have no such leash."""
    parent = os.getpid()

    def attach() -> None:  # pragma: no cover - nothing can be measured before an exec
        if _libc is None:
            return
        _libc.prctl(PR_SET_PDEATHSIG, signum)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return attach
