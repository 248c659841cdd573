"""Ends a worker that came for a while, when its queues have nothing more for it to run."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Sequence

from django.db.models import Q

from .models import TaskLog
from .status import Status

logger = logging.getLogger("taskcontrol")

#: Seconds without anything sent or running: what waits then is held back.
PATIENCE = 3.0


class Burst:
    """Whether this worker process is to end by itself, and since when it has nothing to do."""

    def __init__(self) -> None:
        #: Set by ``manage.py taskcontrol worker --burst``.
        self.wanted = False
        self._idle_since: float | None = None

    def end_if_over(self, worker_id: int | None, queues: Sequence[str]) -> None:
        """Ask this process for a warm shutdown when it has been idle for long enough."""
        if not self.wanted or not self._is_over(worker_id, queues):
            return
        self.wanted = False
        logger.info("Burst: nothing more runs in %s; this worker ends.", ", ".join(queues))
        os.kill(os.getpid(), signal.SIGTERM)

    def _is_over(self, worker_id: int | None, queues: Sequence[str]) -> bool:
        if worker_id is None or _anything_runs(worker_id, queues):
            self._idle_since = None
            return False
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since >= PATIENCE


def _anything_runs(worker_id: int, queues: Sequence[str]) -> bool:
    """Return whether a body is here, or was sent to queues that this worker serves."""
    sent = Q(status=Status.QUEUED, worker=None, queue__in=queues)
    rows = TaskLog.objects.filter(occupies=True).filter(sent | Q(worker=worker_id))
    return rows.exists()


burst = Burst()
