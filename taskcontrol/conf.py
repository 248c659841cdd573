"""Every setting of the dict ``TASKCONTROL``: its default, unit and meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.conf import settings


class Conf:
    """The settings, read when asked for, so that tests and late overrides are seen.

    Each attribute is a key of ``settings.TASKCONTROL``; its value here is the default.
    """

    #: Alias of the database that holds the tasks.
    DATABASE: str = "default"
    #: Queues beside short, default and long, or other values for these:
    #: name -> {"timeout": seconds, "background_workers": processes, "max_queued_jobs": tasks}.
    QUEUES: Mapping[str, Mapping[str, Any]] = {}
    #: Modules (with what lies below them) whose functions may run though no app holds them.
    ALLOWED_MODULES: Sequence[str] = ()
    #: Methods of models that may run as actions without @document_action:
    #: "app_label.Model.action", or "app_label.Model.*" for every one of a model.
    DOCUMENT_ACTIONS: Sequence[str] = ()
    #: Redis for the bell and the live stream; None takes the broker's URL if that is Redis.
    REDIS_URL: str | None = None
    #: Whether bodies run inside one transaction with their end, unless task or type says.
    ATOMIC: bool = False
    #: Functions called before each body with (method, kwargs, transaction_type).
    BEFORE_JOB: Sequence[str] = ()
    #: Functions called after each end with (method, kwargs, result), failures too.
    AFTER_JOB: Sequence[str] = ()
    #: Standard types cannot be deleted or renamed; None means: when DEBUG is off.
    PROTECT_STANDARD_TYPES: bool | None = None

    #: Tasks that may wait in one queue, Pending and Queued, before enqueue refuses more;
    #: None is any number, since they wait in the database.
    MAX_QUEUED_JOBS: int | None = None
    #: Tasks that wait in a queue, beyond which at_front_when_starved puts one at the front.
    STARVED_AFTER: int = 16
    #: Bytes of JSON that the arguments of one task may take.
    ARGUMENTS_MAX_BYTES: int = 64 * 1024
    #: Bytes of JSON up to which a return value is kept.
    RESULT_MAX_BYTES: int = 64 * 1024
    #: Characters kept of an error with its traceback: head and tail, the middle cut.
    ERROR_MAX_CHARS: int = 64 * 1024
    #: Characters kept of what a task printed and logged: head and tail.
    DEBUG_LOG_MAX_CHARS: int = 64 * 1024

    #: Seconds between two passes of the dispatcher when no bell rings.
    DISPATCH_INTERVAL: float = 1.0
    #: Most tasks that one pass promotes.
    DISPATCH_PAGE: int = 500
    #: Whether a worker gives what it promotes for itself to its own children without the
    #: broker: see docs/decisions/0016-deck.md.
    DECK: bool = True
    #: Seconds that the broker may take to answer when it failed before.
    BROKER_TIMEOUT: float = 3.0
    #: Seconds after which a Queued task that nobody claimed is sent again.
    RESEND_AFTER: float = 30.0
    #: How often a message is sent again before the task goes back to Pending.
    RESEND_LIMIT: int = 5
    #: Seconds between two signs of life of a worker's main process, and between two looks
    #: for lost workers and lost messages.
    HEARTBEAT_INTERVAL: float = 5.0
    #: Seconds between two accounts of rows, messages and what workers hold.
    ACCOUNT_INTERVAL: float = 60.0
    #: Seconds of silence after which a worker counts as lost.
    WORKER_LOST_AFTER: float = 20.0
    #: How often a task may be lost with its process before it fails for good.
    LOST_LIMIT: int = 3
    #: Seconds between the request to stop and the forced end, for cancel and for timeout.
    CANCEL_GRACE: float = 10.0
    #: Rows that one statement of a sweep touches.
    SWEEP_PAGE: int = 500
    #: Schedules of the code, in the shape of the seeds' ``scheduler_events``.
    SCHEDULES: Mapping[str, Any] = {}
    #: Seconds between two runs of what stands under "all" in ``SCHEDULES``.
    SCHEDULER_INTERVAL: int = 240
    #: Name of the user as whom schedules run; None makes one who cannot log in.
    SCHEDULER_USER: str | None = None
    #: Seconds by which a run may be late before it counts as missed.
    SCHEDULE_GRACE: float = 60.0
    #: Days after which ended tasks are deleted, by status; a status left out is kept.
    RETENTION_DAYS: Mapping[str, float] = {"Finished": 30, "Canceled": 30, "Failed": 90}
    #: Most failed tasks of one type that are kept, the newest; None means any number.
    FAILED_LIMIT_PER_TYPE: int | None = None

    #: Whether an explicit job_name is a deduplication key without deduplicate=True.
    DEDUPLICATE_BY_JOB_NAME: bool = False
    #: Seconds that a call waits for an open transaction that enqueues under the same key.
    KEY_WAIT: float = 10.0

    #: What the screens in admin are made of: admin's own class, or the one of a theme.
    ADMIN_BASE: str = "django.contrib.admin.ModelAdmin"
    #: Parts of names whose values never appear in tracebacks or screens.
    SECRET_NAMES: Sequence[str] = (
        "api",
        "auth",
        "bearer",
        "cookie",
        "credential",
        "key",
        "pass",
        "pwd",
        "secret",
        "session",
        "signature",
        "token",
    )

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return super().__getattribute__(name)
        if name == "DATABASE" and (alias := _home.get()):
            return alias
        given = getattr(settings, "TASKCONTROL", None) or {}
        if name in given:
            return given[name]
        return super().__getattribute__(name)


#: Another alias of the same database, for a while.
_home: ContextVar[str | None] = ContextVar("taskcontrol_home", default=None)

conf = Conf()


@contextmanager
def home_is(alias: str) -> Iterator[None]:
    """Let ``conf.DATABASE`` be another alias of the same database inside the block."""
    token = _home.set(alias)
    try:
        yield
    finally:
        _home.reset(token)


def known_settings() -> set[str]:
    """Return the names that ``TASKCONTROL`` may hold."""
    return {name for name in Conf.__annotations__ if name.isupper()}


STANDARD_QUEUES: Mapping[str, Mapping[str, Any]] = {
    "short": {"timeout": 300},
    "default": {"timeout": 300},
    "long": {"timeout": 1500},
}


def known_queues() -> dict[str, Mapping[str, Any]]:
    """Return every queue that may be named, with its options; unknown ones are refused."""
    return {**STANDARD_QUEUES, **conf.QUEUES}


def queue_timeout(queue: str) -> int:
    """Return the seconds that a task of ``queue`` may run when nothing else says."""
    return int(known_queues()[queue].get("timeout", 300))


def most_queued(queue: str) -> int | None:
    """Return how many tasks may wait in ``queue``; None is any number."""
    limit = known_queues().get(queue, {}).get("max_queued_jobs", conf.MAX_QUEUED_JOBS)
    return None if limit is None else int(limit)
