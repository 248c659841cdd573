"""Ctrl-C, SIGTERM and a closed terminal: the first asks for an orderly end, the second insists."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What signals have asked for so far.

    The first one is only noted: an exception at any place could break a migration in two,
    or come up in a finalizer, where Python drops it.
    """

    def __init__(self) -> None:
        self.times = 0

    def listen(self, *signals: signal.Signals) -> None:
        """Take ``signals`` from now on, but leave those that the caller's shell ignores."""
        for signum in signals or SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._take)

    def check(self, times: int = 1) -> None:
        """Raise KeyboardInterrupt if the end was asked for so many times."""
        if self.times >= times:
            raise KeyboardInterrupt

    def _take(self, signum: int, frame: FrameType | None) -> None:
        self.times += 1
        self.check(2)
