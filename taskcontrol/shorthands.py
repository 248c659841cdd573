"""Shorter ways to call ``enqueue``: for functions on the whitelist, and for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from django.db.models import Model

from .enqueueing import MaybeNone, as_iterable, bulk_enqueue, enqueue
from .exceptions import InvalidCall
from .models import TaskLog

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


def enqueue_doc(
    document_type: str | type[Model] | Model,
    name: Any = None,
    method: str | None = None,
    **options: Any,
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
    if isinstance(document_type, Model):
        name, method = _of_instance(document_type, name, method)
    if method is None:
        raise InvalidCall("enqueue_doc() needs the name of a method of the document.")
    return enqueue(
        document_type=document_type,
        document_name=name,
        document_action=method,
        **options,
    )


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
