"""Who watches what Celery runs: for them tasks go by message, since Celery tells of no other."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from celery import signals
from celery.app import trace

#: The signals of Celery that tell of one run of a task.
OF_A_RUN = (
    signals.task_received,
    signals.task_prerun,
    signals.task_postrun,
    signals.task_success,
    signals.task_failure,
    signals.task_retry,
)
#: Whose receivers have nothing to do with a body that Celery does not run.
OURS = ("celery.", "taskcontrol.")


def who_watches() -> str:
    """Return who is told of each run in this process, or "" for nobody.

    Receivers of Celery's signals for tasks (OpenTelemetry), and what replaces its tracer
    (Sentry, New Relic).
    """
    for signal in OF_A_RUN:
        for receiver in signal._live_receivers(None):  # noqa: SLF001 - Celery lists them nowhere else
            module = getattr(receiver, "__module__", None) or type(receiver).__module__
            if not f"{module}.".startswith(OURS):
                return f"{module}, a receiver of Celery's {signal.name}"
    for name in ("build_tracer", "trace_task"):
        function = getattr(trace, name)
        if type(function) is not FunctionType or function.__module__ != trace.__name__:
            return f"{function.__module__}, which has replaced Celery's {name}"
    return ""


def wants_events(dispatcher: Any) -> bool:
    """Return whether a worker's dispatcher of events sends those of tasks, as with ``-E``.

    Somebody may ask for them while the worker runs: Flower does.
    """
    if dispatcher is None or not dispatcher.enabled:
        return False
    return not dispatcher.groups or "task" in dispatcher.groups
