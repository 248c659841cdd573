"""Makes a batch before its tasks: its title, its policy, and what runs when it has ended."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError

from .brief import brief
from .conf import conf
from .drafts import Draft, creator_of
from .exceptions import BatchExists, InvalidCall
from .models import TaskBatch
from .options import flag, label
from .registry import parameters_of
from .signature import OPTIONS, UNSAID
from .targets import target_of_call
from .text import clipped

if TYPE_CHECKING:
    from .people import Person

#: What runs when a batch ends: a function, its path, or a dict of what ``enqueue`` takes.
Callback = Callable[..., Any] | str | Mapping[str, Any]

#: The options of ``enqueue`` that a callback may have: those that say how it runs. When and
#: whether it runs is the batch's to say.
OF_CALLBACKS = frozenset(
    {
        "arguments",
        "at_front",
        "atomic",
        "backoff",
        "discard_on",
        "event",
        "job_name",
        "max_retries",
        "on_failure",
        "on_success",
        "priority",
        "queue",
        "retry_delay",
        "retry_on",
        "timeout",
    }
)


def create_batch(
    batch_id: str | None = None,
    *,
    title: str = "",
    hold_on_failure: bool = False,
    on_success: Callback | None = None,
    on_failure: Callback | None = None,
    on_completion: Callback | None = None,
    created_by: Person | None = UNSAID,
) -> str:
    """Make a batch that has no tasks yet, and return its id.

    Its tasks come by ``bulk_enqueue(..., batch_id=...)`` and ``enqueue(..., batch_id=...)``;
    it does not end before the first of these calls. ``batch_id``: 140 characters, default a
    new UUID. ``title``: for people, cut at 300 characters.

    ``hold_on_failure``: when a task has failed with no retry due, the tasks that have not
    begun are paused until ``resume_batch``; by default they go on.

    ``on_success``: runs when all tasks have finished; ``on_failure``: when all have ended
    and one failed or was canceled; ``on_completion``: when all have ended. Each is a task of
    its own, inserted once for all time, as the batch's creator (``created_by``, as in
    ``enqueue``): a function or its path, or a dict of what ``enqueue`` takes. A function
    with a parameter ``batch_id`` gets it.

    Raises a ValueError (``InvalidCall``) when the id is taken (``BatchExists``) or a
    callback could never run.
    """
    batch_id = str(uuid.uuid4()) if batch_id is None else label(140)("batch_id", batch_id)
    if not batch_id:
        raise InvalidCall("batch_id must not be empty; leave it out to get a new one.")
    creator = creator_of(created_by)
    given = {"success": on_success, "failure": on_failure, "completion": on_completion}
    held = flag("hold_on_failure", hold_on_failure)
    batch = TaskBatch(
        id=batch_id,
        title=clipped(str(title or ""), 300),
        created_by_id=getattr(creator, "pk", None),
        on_failure=TaskBatch.OnFailure.HOLD if held else TaskBatch.OnFailure.CONTINUE,
        callbacks={
            event: {"columns": _columns(event, callback, batch_id, creator)}
            for event, callback in given.items()
            if callback is not None
        },
    )
    try:
        with brief():
            batch.save(force_insert=True, using=conf.DATABASE)
    except IntegrityError:
        raise BatchExists(batch_id) from None
    return batch_id


def _columns(event: str, callback: Callback, batch_id: str, creator: Any) -> dict[str, Any]:
    """Return the columns of a callback's row, checked here: a pass imports no user code."""
    own = dict(callback) if isinstance(callback, Mapping) else {"method": callback}
    try:
        return _draft(own, batch_id, creator).values
    except Exception as error:
        error.add_note(f"This was on_{event} of create_batch; nothing was stored.")
        raise


def _draft(own: dict[str, Any], batch_id: str, creator: Any) -> Draft:
    method = own.pop("method", None)
    refused = sorted((OPTIONS & own.keys()) - OF_CALLBACKS)
    if refused:
        raise InvalidCall(
            f"The callback of a batch takes no {refused[0]!r}; of the options of enqueue() "
            f"it takes: {', '.join(sorted(OF_CALLBACKS))}."
        )
    options = {name: own.pop(name) for name in OPTIONS & own.keys()}
    said = set(options)
    if method is not None and "batch_id" in parameters_of(_function_of(method, creator)):
        arguments = options.get("arguments") or {}
        options["arguments"] = {"batch_id": batch_id, **arguments}
    options = {"event": batch_id, **options, "created_by": creator}
    return Draft(method, options, own, said=said)


def _function_of(method: Any, creator: Any) -> Callable[..., Any]:
    return target_of_call(method, {}, creator).function
