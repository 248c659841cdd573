"""Which methods of a model may run as actions on its documents, and what each is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from django.db.models import Model

from .conf import conf
from .exceptions import ActionNotAllowed, InvalidCall, MethodNotCallable, MethodNotFound

if TYPE_CHECKING:
    from .options import TypeOptions

F = TypeVar("F", bound=Callable[..., Any])

#: Where the decorator leaves its options on a method.
MARK = "taskcontrol_action"

#: The actions of the installed models that code declares: model and action by key.
declared: dict[str, tuple[type[Model], str]] = {}


@overload
def document_action(method: F) -> F: ...
@overload
def document_action(**options: Unpack[TypeOptions]) -> Callable[[F], F]: ...
def document_action(method: Any = None, **options: Unpack[TypeOptions]) -> Any:
    """Let a method of a model run as an action on its documents; the outermost decorator.

    Use with or without options, which are those of ``@taskcontrol.task`` and declare the
    type "app_label.Model.action"; ``one_per_document=True`` refuses a second call for a
    document while one has not ended. Whoever can enqueue can call it: it is no permission.
    """

    def marked_as_action(function: F) -> F:
        setattr(getattr(function, "__func__", function), MARK, options)
        return function

    return marked_as_action if method is None else marked_as_action(method)


def marked(model: type[Model]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the actions that the code of ``model`` declares, with their options."""
    names = {name for base in model.__mro__ for name in vars(base)}
    for name in sorted(names):
        options = _mark_of(inspect.getattr_static(model, name, None))
        if options is not None:
            yield name.removeprefix("_"), options


def _mark_of(raw: Any) -> dict[str, Any] | None:
    own = getattr(getattr(raw, "__func__", raw), "__dict__", {})
    return own.get(MARK) if isinstance(own, dict) else None


def key_of(model: type[Model], action: str) -> str:
    """Return the method under which an action's tasks are stored and have their type."""
    return f"{model._meta.label}.{action}"


def method_name(model: type[Model], action: str) -> str:
    """Return the name of the method that an action calls: ``_action`` before ``action``.

    Raises InvalidCall for what cannot be an action's name, MethodNotFound when the model
    has no such method, and ActionNotAllowed when that is not meant to be an action.
    """
    if not action.isidentifier() or action.startswith("_"):
        raise InvalidCall(
            f"document_action={action!r} cannot be an action: it is the name of a method "
            "without underscores in front."
        )
    key = key_of(model, action)
    for name in (f"_{action}", action):
        raw = inspect.getattr_static(model, name, None)
        if raw is not None:
            found = getattr(model, name, None)
            if not callable(found) or inspect.isclass(found):
                raise MethodNotCallable(key, f"{name!r} of the model is not a method.")
            if _mark_of(raw) is None and not _is_listed(model, action):
                raise ActionNotAllowed(key, name)
            return name
    raise MethodNotFound(key, f"the model has neither {action!r} nor '_{action}'")


def _is_listed(model: type[Model], action: str) -> bool:
    label = model._meta.label
    return not {f"{label}.{action}", f"{label}.*"}.isdisjoint(conf.DOCUMENT_ACTIONS)


def as_bound(model: type[Model], name: str) -> Callable[..., Any]:
    """Return a method as a document would have it, to ask for its signature and marks."""
    bound: Callable[..., Any] = _bound(inspect.getattr_static(model, name), model)
    return bound


@lru_cache(maxsize=1024)
def _bound(raw: Any, model: type[Model]) -> Any:
    bind = getattr(raw, "__get__", None)
    return bind(object.__new__(model), model) if bind else raw
