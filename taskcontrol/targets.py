"""What a call of ``enqueue`` will run, and what a row runs: checked at both ends of the road."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from . import actions, documents, safecalls
from .context import nobody
from .documents import Document
from .exceptions import (
    CreatorGone,
    Discard,
    InvalidCall,
    MethodNotAllowed,
    MethodNotCallable,
    MethodNotFound,
    NotPermitted,
    NotWhitelisted,
)
from .models import TaskLog
from .registry import own_path, path_of, refuse_unrunnable, resolve


@dataclass(frozen=True)
class Target:
    """What a call will run: the method of the row, and a callable to ask for its signature."""

    method: str
    function: Callable[..., Any]
    document: Document | None = None


def target_of_call(method: Any, options: Mapping[str, Any], creator: Any) -> Target:
    """Return what a call with these options, as ``creator``, will run.

    Raises InvalidCall or a PermissionError with the sentence why it will not.
    """
    safe = bool(options.get("call_whitelisted_function"))
    document = documents.document_of(method, options)
    if safe and (document or method is not None):
        return _opened(method, document, creator)
    if document is None and method is None:
        raise InvalidCall(
            "enqueue() needs a method: a function or its dotted path; or document_type, "
            "document_name and document_action."
        )
    if document is not None and document.action is not None:
        return _of_action(document)
    return _of_method(method, document)


def _opened(method: Any, document: Document | None, creator: Any) -> Target:
    """Return what a safe call will run; its refusals tell nothing of what there is."""
    acts = document is not None and document.action is not None
    try:
        target = _of_action(document) if document and acts else _of_name(method, document)
    except (MethodNotAllowed, MethodNotCallable, MethodNotFound):
        if callable(method):
            raise  # it stands in the code, whose author is to know why
        raise NotWhitelisted(document.key if document and acts else method) from None
    safecalls.check(target.method, target.function, creator)
    return target


def _of_name(method: Any, document: Document | None) -> Target:
    """What came from outside is a name of the code, of something else, or a path."""
    known = safecalls.path_named(method) if isinstance(method, str) else None
    path = known or path_of(method)
    # Asked of the own path too: a module may have given a method of instances a name.
    if safecalls.is_open(path) and safecalls.is_open(own_path(path)):
        return _of_method(path, document)
    found = None if "." in path else safecalls.find_elsewhere(path)
    if found is None:
        raise NotWhitelisted(path)
    return Target(found.method, found.function, document)


def _of_action(document: Document) -> Target:
    try:
        function = document.target()
    except MethodNotFound as error:
        raise MethodNotCallable(document.key, f"{error.why}.") from error
    refuse_unrunnable(document.key, function)
    return Target(document.key, function, document)


def _of_method(method: Any, document: Document | None) -> Target:
    path = path_of(method)
    try:
        function = resolve(path)
        return Target(own_path(path), function, document)
    except MethodNotFound as error:
        raise MethodNotCallable(path, f"{error.why}.") from error


def target_of_type(method: str) -> Callable[..., Any]:
    """Return what tasks of a declared type run; raises as ``registry.resolve`` does."""
    if method not in actions.declared:
        return resolve(method)
    model, action = actions.declared[method]
    function = actions.as_bound(model, actions.method_name(model, action))
    refuse_unrunnable(method, function)
    return function


def target_of_row(row: TaskLog) -> Callable[..., Any]:
    """Return what ``row`` runs here and now, if it still may."""
    if row.document_action:
        target, function = documents.action_of(row)
        refuse_unrunnable(row.method, function)
    else:
        target = function = _of_row(row)
    if row.call_whitelisted_function:
        _check_again(row, function)
    return target


def _of_row(row: TaskLog) -> Callable[..., Any]:
    if row.call_whitelisted_function and "." not in row.method:
        found = safecalls.find_elsewhere(row.method)
        if found is not None:
            return found.function
    return resolve(row.method)


def _check_again(row: TaskLog, function: Callable[..., Any]) -> None:
    """Rights that were lost do not come back by trying again, so there is no retry."""
    try:
        known = not row.options.get("anonymous")
        creator = (
            safecalls.creator_now(row.method, row.created_by_id) if known else nobody()
        )
        safecalls.check(row.method, function, creator)
    except (CreatorGone, NotPermitted) as error:
        raise Discard(str(error)) from error
