"""Work that is to be done every so often by a loop that turns faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Every:
    """Runs ``call`` when asked, but not more often than every ``interval`` seconds.

    A run that fails counts as one, unless ``insist`` says to try again when asked next.
    """

    def __init__(
        self, interval: float, call: Callable[[], Any], *, insist: bool = False
    ) -> None:
        self.interval, self.call, self.insist = interval, call, insist
        self._ran_at = float("-inf")

    def run(self) -> None:
        """Run if the interval has passed."""
        if time.monotonic() - self._ran_at < self.interval:
            return
        before, self._ran_at = self._ran_at, time.monotonic()
        try:
            self.call()
        except BaseException:
            if self.insist:
                self._ran_at = before
            raise
