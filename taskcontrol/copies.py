"""Runs an ended task again as a new one, with the same arguments or with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import F

from . import permissions
from .arguments import decode
from .brief import brief
from .enqueueing import enqueue
from .exceptions import InvalidCall, InvalidTransition
from .history import record
from .lookup import find_task
from .models import TaskEvent, TaskLog
from .status import TERMINAL

#: In the column ``options`` of a copy; ``parent`` then names the task that it is a copy of.
COPY = "copy"

#: Columns that a copy takes over as the options of the same names.
_COLUMNS = (
    "at_front",
    "call_whitelisted_function",
    "event",
    "job_id",
    "max_retries",
    "priority",
    "queue",
    "retry_delay",
    "timeout",
)
#: What the column ``options`` holds under the name of an option.
_POLICIES = ("atomic", "backoff", "discard_on", "on_failure", "on_success", "retry_on")


def run_again(
    task: TaskLog | str | int,
    *,
    arguments: Mapping[str, Any] | None = None,
    user: Any = None,
) -> TaskLog:
    """Enqueue a copy of an ended task, perhaps with other ``arguments``; return the copy.

    The copy takes over queue, label, document, limits and policies, neither batch nor
    times, and leads back to the first ("retry of"). It runs as ``user``, or as the creator
    of the first without one. Arguments are checked as ``enqueue`` checks them.

    ``user`` needs the permission ``retry_tasklog`` (or to be an owner who may retry), and to
    give arguments also ``view_sensitive_tasklog``, else PermissionError. Raises
    InvalidTransition (a ValueError) for a task that has not ended, and InvalidCall for one
    that is retried by itself, for arguments that do not fit, and while another task has
    its deduplication key.
    """
    row = find_task(task)
    permissions.require(user, permissions.RETRY, row, "run a copy of")
    if arguments is not None:
        permissions.require(user, permissions.SENSITIVE, row, "edit the arguments of")
    with brief():
        _check_ended(row)
        copy = enqueue(**_call(row, arguments, user))
        if copy is None:
            raise InvalidCall(
                f"Task {row.pk} was not copied: another task with its key {row.job_id!r} "
                "waits or runs."
            )
        _lead_back(copy, row, user)
    return copy


def _check_ended(row: TaskLog) -> None:
    row.refresh_from_db(fields=["status", "retry_at"])
    if row.status not in TERMINAL:
        raise InvalidTransition(row.pk, "run again", row.status, sorted(TERMINAL))
    if row.retry_at is not None:
        raise InvalidCall(
            f"Task {row.pk} will be retried by itself; cancel it before you run a copy."
        )


def _call(row: TaskLog, arguments: Mapping[str, Any] | None, user: Any) -> dict[str, Any]:
    """Return what ``enqueue`` is to be called with."""
    if row.options.get("retry_when_asked"):
        columns = [name for name in _COLUMNS if name != "max_retries"]
    else:
        columns = list(_COLUMNS)
    call = {name: getattr(row, name) for name in columns}
    call |= {name: row.options[name] for name in _POLICIES if name in row.options}
    if row.document_type:
        call |= {"document_type": row.document_type, "document_name": row.document_name}
    if row.document_action:
        call["document_action"] = row.document_action
    else:
        call["method"] = row.method
    if row.job_name != row.method:
        call["job_name"] = row.job_name
    if any(kind == "job" for _, kind in row.options.get("keys", ())):
        call["deduplicate"] = True
    given = _decoded(row) if arguments is None else dict(arguments)
    return {
        **{name: value for name, value in call.items() if value not in (None, "")},
        "arguments": given,
        "created_by": row.creator if user is None else user,
    }


def _decoded(row: TaskLog) -> dict[str, Any]:
    try:
        found: dict[str, Any] = decode(row.arguments)
    except Exception as error:
        raise InvalidCall(
            f"The arguments of task {row.pk} cannot be read here: {error!r}."
        ) from error
    return found


def _lead_back(copy: TaskLog, first: TaskLog, user: Any) -> None:
    values = {"parent_id": first.pk, "options": {**copy.options, COPY: True}}
    TaskLog.objects.filter(pk=copy.pk).update(**values, rev=F("rev") + 1)
    copy.refresh_from_db(fields=["parent", "options", "rev"])
    kind = TaskEvent.Kind.COPIED
    record([first], kind, actor=user, detail=f"as task {copy.pk}")
    record([copy], kind, actor=user, detail=f"from task {first.pk}")
