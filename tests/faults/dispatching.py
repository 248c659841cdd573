"""A process that makes passes and sweeps again and again: ``python -m tests.faults.dispatching``.

As ``manage.py taskcontrol dispatch``, ``rescue`` and ``retry-failed`` do once.
"""

from __future__ import annotations

import logging
import time

import django

#: Seconds between two rounds.
PAUSE = 0.2


def dispatch_for_ever() -> None:
    """Go on until somebody ends this process."""
    from django.db import connection

    from taskcontrol.dispatch import dispatch_pending
    from taskcontrol.rescue import rescue_lost_tasks
    from taskcontrol.resending import resend_unclaimed

    while True:
        for call in (dispatch_pending, rescue_lost_tasks, resend_unclaimed):
            try:
                call()
            except Exception:
                logging.getLogger("taskcontrol").exception("%s failed", call.__name__)
                connection.close()
        time.sleep(PAUSE)


if __name__ == "__main__":
    django.setup()
    dispatch_for_ever()
