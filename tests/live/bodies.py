"""Bodies that a page watches."""

from __future__ import annotations

import threading

import taskcontrol


def report_and_wait() -> None:
    """Report a first step, and wait until it is canceled."""
    taskcontrol.notify_task_status(
        {"progress": {"count": 1, "total": 4, "description": "one"}}
    )
    task = taskcontrol.current_task()
    while task is not None:
        task.check_canceled()
        threading.Event().wait(0.05)
