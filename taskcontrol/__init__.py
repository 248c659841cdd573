"""A durable ledger and a dispatcher in front of Celery, for Django: the front door.

Names are loaded when first used, since models cannot be imported before the apps are ready.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import schedules as schedules
    from .actions import document_action as document_action
    from .batchcontrol import (
        cancel_batch as cancel_batch,
        pause_batch as pause_batch,
        resume_batch as resume_batch,
        retry_batch as retry_batch,
    )
    from .batchmaking import create_batch as create_batch
    from .bell import request_dispatch as request_dispatch
    from .cancellation import cancel as cancel
    from .chunks import iter_chunks as iter_chunks
    from .context import current_task as current_task
    from .copies import run_again as run_again
    from .enqueueing import bulk_enqueue as bulk_enqueue, enqueue as enqueue
    from .exceptions import (
        Discard as Discard,
        LockLost as LockLost,
        LockTaken as LockTaken,
        Retry as Retry,
    )
    from .explanation import explain as explain
    from .forcing import force_stop as force_stop
    from .holding import pause as pause, resume as resume
    from .jobs import (
        get_job as get_job,
        get_job_status as get_job_status,
        get_jobs as get_jobs,
        is_job_enqueued as is_job_enqueued,
    )
    from .locks import lock as lock
    from .monitoring import get_workers as get_workers
    from .progress import notify_task_status as notify_task_status
    from .registry import declare_type as declare_type, task as task
    from .reordering import move_to_front as move_to_front
    from .retries import retry as retry
    from .safecalls import whitelist as whitelist
    from .shorthands import (
        bulk_enqueue_safe as bulk_enqueue_safe,
        enqueue_doc as enqueue_doc,
        enqueue_safe as enqueue_safe,
    )
    from .suspension import (
        can_dispatch_now as can_dispatch_now,
        toggle_dispatcher as toggle_dispatcher,
    )

__version__ = "0.1.0.dev0"

_ROOMS = {
    "actions": "document_action",
    "batchcontrol": "cancel_batch pause_batch resume_batch retry_batch",
    "batchmaking": "create_batch",
    "bell": "request_dispatch",
    "cancellation": "cancel",
    "chunks": "iter_chunks",
    "context": "current_task",
    "copies": "run_again",
    "enqueueing": "bulk_enqueue enqueue",
    "exceptions": "Discard LockLost LockTaken Retry",
    "explanation": "explain",
    "forcing": "force_stop",
    "holding": "pause resume",
    "jobs": "get_job get_job_status get_jobs is_job_enqueued",
    "locks": "lock",
    "monitoring": "get_workers",
    "progress": "notify_task_status",
    "registry": "declare_type task",
    "reordering": "move_to_front",
    "retries": "retry",
    "safecalls": "whitelist",
    "shorthands": "bulk_enqueue_safe enqueue_doc enqueue_safe",
    "suspension": "can_dispatch_now toggle_dispatcher",
}
_DOORS = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = ["__version__", "schedules", *sorted(_DOORS)]  # noqa: PLE0604 - the table above is the list


if not TYPE_CHECKING:  # else a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        if name == "schedules":
            # Its verbs keep the room's name: taskcontrol.schedules.create().
            return import_module(".schedules", __name__)
        room = _DOORS.get(name)
        if room is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{room}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
