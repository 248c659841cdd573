"""Work that is to be done every so often by a loop that turns faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Every:
    """Runs ``call`` when asked, but not more often than every ``interval`` seconds."""

    def __init__(self, interval: float, call: Callable[[], Any]) -> None:
        self.interval, self.call = interval, call
        self._ran_at = float("-inf")

    def run(self) -> None:
        """Run if the interval has passed; also a run that fails counts."""
        if time.monotonic() - self._ran_at >= self.interval:
            self._ran_at = time.monotonic()
            self.call()
