"""Examines the task types that reach no task, since their key leads to no method."""

from __future__ import annotations

from collections.abc import Iterator

from django.apps import apps
from django.db.models import Exists, OuterRef, Q

from ..actions import method_name
from ..exceptions import TaskControlError
from ..models import TaskLog, TaskType
from ..targets import target_of_type
from .findings import Finding, Level

#: What somebody has set up, and does not just stand there because a task came by.
SET_UP = (
    ~Q(priority=0)
    | Q(concurrency_limit__gt=0)
    | ~Q(rate_limit="")
    | Q(is_standard=True)
    | Q(paused_at__isnull=False)
)


def examine_types() -> Iterator[Finding]:
    """Yield each type that was set up for a method which is not there and had no task."""
    tasks = TaskLog.objects.filter(method=OuterRef("method"))
    unused = TaskType.objects.filter(SET_UP, ~Exists(tasks)).order_by("method")
    for method in unused.values_list("method", flat=True):
        why = _why_not(method)
        if why:
            yield Finding(
                Level.WARN,
                f"Type {method}",
                f"no task can be of it: {why}",
                "Give it the dotted path of a function, or app_label.Model.action.",
            )


def _why_not(method: str) -> str:
    """Return why no task can have this method; empty when one can."""
    if "." not in method:
        return ""  # a name of a safe call
    try:
        target_of_type(method)
    except TaskControlError as error:
        return "" if _is_action(method) else str(getattr(error, "why", error))
    return ""


def _is_action(method: str) -> bool:
    """Return whether a setting lets this method of a model run."""
    label, _, action = method.rpartition(".")
    try:
        method_name(apps.get_model(label), action)
    except (LookupError, ValueError, TaskControlError):
        return False
    return True
