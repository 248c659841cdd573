"""Shorter ways to call ``enqueue``: for functions on the whitelist, and for documents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from django.db.models import Model

from .enqueueing import (
    MaybeNone,
    OnDuplicate,
    Reference,
    as_iterable,
    bulk_enqueue,
    enqueue,
)
from .exceptions import InvalidCall
from .models import TaskLog
from .options import Duration, ErrorClasses
from .signature import UNSAID, said

if TYPE_CHECKING:
    from .people import Person

P = ParamSpec("P")
R = TypeVar("R")


def _taking_what(call: Callable[P, R]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Tell type checkers that a shorthand takes what ``call`` takes."""
    return lambda shorthand: shorthand


@_taking_what(enqueue)
def enqueue_safe(
    method: str | Callable[..., Any] | None = None, **options: Any
) -> TaskLog | MaybeNone:
    """Enqueue a function that is decorated with ``@taskcontrol.whitelist``, and no other.

    ``method`` may come from outside: the name that the decorator gave, a dotted path, or
    the function; options and arguments are those of ``enqueue``. With document_type,
    document_name and document_action instead, the method of the model must be whitelisted
    too. Asked here and again in the worker.

    Raises NotWhitelisted for anything else, NotPermitted when the creator lacks the
    decorator's permission and CreatorGone when he is deactivated: each a PermissionError.
    """
    return enqueue(method, **_safe(options))


@_taking_what(bulk_enqueue)
def bulk_enqueue_safe(
    tasks: Iterable[Mapping[str, Any]], batch_id: str | None = None, **shared: Any
) -> str:
    """Enqueue many whitelisted functions as one batch; see ``bulk_enqueue``, ``enqueue_safe``.

    If one task is refused, nothing is stored.
    """
    _refuse_unsafe(shared)
    return bulk_enqueue(map(_safe, as_iterable(tasks)), batch_id, **shared)


def _safe(task: Any) -> Any:
    if not isinstance(task, Mapping):
        return task  # bulk_enqueue says what is wrong with it
    _refuse_unsafe(task)
    return {**task, "call_whitelisted_function": True}


def _refuse_unsafe(options: Mapping[str, Any]) -> None:
    if options.get("call_whitelisted_function", True) is not True:
        raise InvalidCall(
            "A safe call cannot be made with call_whitelisted_function=False."
        )


def enqueue_doc(  # noqa: PLR0913 - the options of enqueue, for type checkers and people
    document_type: str | type[Model] | Model,
    name: Any = None,
    method: str | None = None,
    *,
    queue: str | None = None,
    timeout: Duration | None = None,
    job_name: str | None = None,
    max_retries: int | None = None,
    retry_delay: Duration | None = None,
    at_front: bool = False,
    call_whitelisted_function: bool = False,
    batch_id: str | None = None,
    batch_order: int | None = None,
    paused: bool = False,
    run_at: dt.datetime | dt.timedelta | None = None,
    priority: int | None = None,
    job_id: str | None = None,
    deduplicate: bool = False,
    on_duplicate: OnDuplicate | None = None,
    enqueue_after_commit: bool = True,
    now: bool = False,
    is_async: bool = True,
    at_front_when_starved: bool = False,
    on_success: Reference | None = None,
    on_failure: Reference | None = None,
    retry_on: ErrorClasses | None = None,
    discard_on: ErrorClasses | None = None,
    backoff: bool | Mapping[str, Any] | None = None,
    atomic: bool | None = None,
    event: str | None = None,
    track_job: bool = True,
    created_by: Person | None = UNSAID,
    expires: dt.datetime | dt.timedelta | None = None,
    after: TaskLog | str | int | None = None,
    arguments: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> TaskLog | MaybeNone:
    """Enqueue an action on a document: ``enqueue_doc("shop.Invoice", 7, "submit")``.

    Also ``enqueue_doc(Invoice, 7, "submit")`` and ``enqueue_doc(invoice, "submit")``. The
    worker reads the document and calls its method ``_submit``, or else ``submit``, with the
    arguments, which are given with the options as in ``enqueue``. The method must be
    decorated with ``@taskcontrol.document_action``, or listed in the setting
    ``DOCUMENT_ACTIONS``.

    Raises a ValueError (``InvalidCall``) for half a document and for arguments that do not
    fit, ActionNotAllowed (a PermissionError) for other methods, and DocumentBusy while the
    same action has not ended there, if its type is one at a time per document.
    """
    options = {**kwargs, **said(locals())}
    if isinstance(document_type, Model):
        name, method = _of_instance(document_type, name, method)
    if method is None:
        raise InvalidCall("enqueue_doc() needs the name of a method of the document.")
    return enqueue(**{**options, "document_name": name, "document_action": method})


def _of_instance(document: Model, name: Any, method: str | None) -> tuple[None, str | None]:
    """Return the name and the method that a call with an instance means."""
    if method is None:
        return None, name
    if name is not None and str(getattr(name, "pk", name)) != str(document.pk):
        raise InvalidCall(
            f"enqueue_doc() got {document!r} and the name {name!r} of another document; "
            "leave one of them out."
        )
    return None, method
