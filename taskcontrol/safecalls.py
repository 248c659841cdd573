"""Which functions may be called by a name that came from outside: the safe calls."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from celery import Task as CeleryTask, current_app
from celery.local import Proxy
from django.contrib.auth import get_user_model
from django.utils.module_loading import autodiscover_modules

from .exceptions import CreatorGone, InvalidCall, NotPermitted, NotWhitelisted

F = TypeVar("F", bound=Callable[..., Any])

#: Where the decorator leaves its mark on a function.
MARK = "taskcontrol_whitelist"


@dataclass(frozen=True)
class Entry:
    """What the decorator says of a function."""

    #: The function that it was given to: wrappers take over each other's marks.
    function: Callable[..., Any]
    #: Another name under which it may be called.
    name: str | None = None
    #: "app_label.codename" that the creator of the task must have.
    permission: str | None = None


@dataclass(frozen=True)
class Found:
    """What is called by a name and is no function of the code."""

    #: What the row keeps, under which it is found again.
    method: str
    #: Carries the mark of the decorator.
    function: Callable[..., Any]


#: Who find by a name, or by a method, what is no function of the code: apps that have such
#: things add themselves in ``ready``. Code is asked first.
FINDERS: list[Callable[[str], Found | None]] = []

#: The paths of the functions that have another name, by that name.
named: dict[str, str] = {}


@overload
def whitelist(method: F) -> F: ...
@overload
def whitelist(
    *, name: str | None = None, permission: str | None = None
) -> Callable[[F], F]: ...
def whitelist(
    method: Any = None, *, name: str | None = None, permission: str | None = None
) -> Any:
    """Let a function be called by ``enqueue_safe``; use with or without options.

    ``name``: another name for it, which may hold spaces. ``permission``:
    "app_label.codename" that the creator of the task must have, at the call and when it
    runs; the system needs none, an anonymous visitor has none. The function stays a plain
    function.
    """

    def whitelisted(method: F) -> F:
        _refuse_wrong_use(method, permission)
        function: Any = getattr(method, "__func__", method)
        if name is not None:
            _remember(name, f"{function.__module__}.{function.__qualname__}")
        setattr(function, MARK, Entry(function, name, permission))
        return method

    return whitelisted if method is None else whitelisted(method)


def _refuse_wrong_use(method: Any, permission: str | None) -> None:
    # Asking Celery's proxies for anything would make their task while the app is loading.
    wrapped = issubclass(type(method), Proxy)
    if wrapped or not inspect.isroutine(getattr(method, "__func__", method)):
        raise InvalidCall(
            f"@whitelist marks functions, not a {type(method).__name__}. Put it under the "
            "decorator that makes something else of the function, such as @shared_task."
        )
    if permission is not None and permission.count(".") != 1:
        raise InvalidCall(
            f"permission={permission!r} of @whitelist must read 'app_label.codename'."
        )


def _remember(name: str, path: str) -> None:
    if named.setdefault(name, path) != path:
        raise InvalidCall(
            f"@whitelist(name={name!r}) of {path} is taken by {named[name]}; names are "
            "unique on a site."
        )


def path_named(name: str) -> str | None:
    """Return the path of the function that is whitelisted under ``name``.

    Looks into the module ``tasks`` of each app before it gives up.
    """
    if name not in named:
        _look_into_tasks()
    return named.get(name)


def find_elsewhere(name: str) -> Found | None:
    """Return what an app has under a name or a method that is no dotted path."""
    return next((found for find in FINDERS if (found := find(name))), None)


def is_open(path: str) -> bool:
    """Return whether a path from outside leads to a function on the whitelist.

    Looks only at what is imported, for importing runs code; and not for methods that need
    an instance, which only a document can have.
    """
    found = _find_imported(path)
    if found is None:
        found = current_app.tasks.get(path)
    return found is not None and _entry_of(found) is not None


def _find_imported(path: str) -> Any:
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut]))
        if module is not None:
            # Not by getattr: a module may import more when it is asked for a name.
            found = vars(module).get(parts[cut])
            return _inside(found, parts[cut + 1 :])
    return None


def _inside(found: Any, names: list[str]) -> Any:
    """Return what a class has under these names, bound to it."""
    for name in names:
        if not inspect.isclass(found) or needs_instance(found, name):
            return None
        found = getattr(found, name, None)
    return found


def needs_instance(owner: type, name: str) -> bool:
    """Return whether a class has a method of this name that is called on its instances."""
    return inspect.isroutine(inspect.getattr_static(owner, name, None)) and not isinstance(
        inspect.getattr_static(owner, name), classmethod | staticmethod
    )


@functools.cache
def _look_into_tasks() -> None:
    autodiscover_modules("tasks")


def check(method: str, target: Any, creator: Any) -> None:
    """Raise unless ``target`` may be called safely by ``creator`` (None: the system).

    NotWhitelisted, CreatorGone or NotPermitted, each a PermissionError.
    """
    entry = _entry_of(target)
    if entry is None:
        raise NotWhitelisted(method)
    if creator is None:
        return
    if creator.is_anonymous:
        if entry.permission is not None:
            raise NotPermitted(None, entry.permission, f"call {method}")
        return
    if not creator.is_active:
        raise CreatorGone(method, creator.get_username(), "is deactivated")
    if entry.permission is not None and not creator.has_perm(entry.permission):
        raise NotPermitted(creator, entry.permission, f"call {method}")


def _entry_of(target: Any) -> Entry | None:
    # A Celery task has the function in ``run``, or wraps it there; a method in ``__func__``.
    if isinstance(target, CeleryTask):
        target = getattr(target, "_orig_run", target.run)
    function = getattr(target, "__func__", target)
    found = getattr(function, "__dict__", {}).get(MARK)
    return found if isinstance(found, Entry) and found.function is function else None


def creator_now(method: str, user_id: Any) -> Any:
    """Return the creator of a safe call as the database knows him now; None: the system.

    Raises CreatorGone when he was deleted meanwhile.
    """
    if user_id is None:
        return None
    user = get_user_model()._default_manager.filter(pk=user_id).first()
    if user is None:
        raise CreatorGone(method, f"user {user_id}", "was deleted")
    return user
