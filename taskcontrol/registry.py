"""Which callables may run, and the way between a callable and its dotted path."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar, Unpack, overload

from celery import Task as CeleryTask, current_app
from celery.exceptions import SoftTimeLimitExceeded
from django.apps import apps

from .conf import conf
from .exceptions import InvalidCall, MethodNotAllowed, MethodNotCallable, MethodNotFound
from .options import DECLARABLE, TypeOptions

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declaration:
    """What code says of a task type; None leaves the value to the defaults."""

    method: str
    values: dict[str, Any] = field(default_factory=dict)


#: Every declared type by method.
declarations: dict[str, Declaration] = {}


@overload
def task(method: F) -> F: ...
@overload
def task(**options: Unpack[TypeOptions]) -> Callable[[F], F]: ...
def task(method: Any = None, **options: Unpack[TypeOptions]) -> Any:
    """Declare a function as a task type; use with or without options.

    The function stays a plain function. Options, all optional: ``queue``, ``timeout``
    (seconds), ``max_retries``, ``retry_delay`` (seconds), ``backoff`` (True or {"factor",
    "max", "jitter"}), ``retry_on`` and ``discard_on`` (exception classes or their paths),
    ``priority`` (higher first), ``concurrency_limit`` (0 = none), ``rate_limit`` ("10/m":
    most of them sent within any minute; s, m, h, d), ``atomic`` (body and end in one
    transaction), ``on_lost`` ("rerun" or "fail"), ``retention_days`` ({"Finished": 7}),
    ``one_per_document``, ``store_celery_result``, ``owner_may_cancel``, ``owner_may_retry``,
    ``description``.
    A person may change them in admin; a later declaration keeps such an edit.
    """

    def declared(function: F) -> F:
        declare_type(path_of(function), **options)
        return function

    return declared if method is None else declared(method)


def declare_type(method: str, **options: Unpack[TypeOptions]) -> None:
    """Declare a task type by its dotted path, for code that cannot be decorated.

    The declaration also allows the path to run. Written to the database after ``migrate``
    and by the first dispatch that meets the method.
    """
    unknown = options.keys() - DECLARABLE.keys()
    if unknown:
        raise InvalidCall(
            f"{method!r} is declared with unknown options {', '.join(sorted(unknown))}; "
            f"there are: {', '.join(sorted(DECLARABLE))}."
        )
    declarations[method] = Declaration(
        method,
        {
            name: DECLARABLE[name](f"{method}: {name}", value)
            for name, value in options.items()
            if value is not None
        },
    )


def path_of(method: Any) -> str:
    """Return the dotted path under which a worker finds ``method``.

    Takes a dotted path, a function, a static or class method, or a Celery task; raises
    MethodNotCallable with what to do for everything that no other process could find.
    """
    if isinstance(method, str):
        return method.strip()
    if isinstance(method, CeleryTask):
        return _path_of_celery_task(method)
    if not callable(method):
        raise MethodNotCallable(method, "it is neither callable nor a dotted path.")
    module, name = _home_of(method)
    _refuse_hidden(method, module, name)
    return f"{module}.{name}"


def _home_of(method: Any) -> tuple[str, str]:
    if not inspect.ismethod(method):
        return getattr(method, "__module__", ""), getattr(method, "__qualname__", "")
    owner = method.__self__
    if not inspect.isclass(owner):
        raise MethodNotCallable(
            method,
            "it is bound to an object that a worker does not have. Pass a function and "
            "what it needs as arguments.",
        )
    # The class that it is called on, which need not be the one that defines it.
    return owner.__module__, f"{owner.__qualname__}.{method.__name__}"


def _refuse_hidden(method: Any, module: str, name: str) -> None:
    """Raise MethodNotCallable for a function that no other process could find."""
    if not name or not module:
        raise MethodNotCallable(
            method, "it has no name to be found by. Write a function in a module."
        )
    if "<lambda>" in name:
        raise MethodNotCallable(
            method, "a worker cannot find a lambda. Write a function in a module."
        )
    if "<locals>" in name:
        raise MethodNotCallable(
            method,
            "a worker cannot find a function defined inside another. Move it to the top "
            "level of its module.",
        )
    if module == "__main__":
        raise MethodNotCallable(
            method, "it lives in the script that runs. Put it into a module of an app."
        )


def _path_of_celery_task(celery_task: Any) -> str:
    run = inspect.unwrap(celery_task.run)
    # Of the class: what @app.task returns is a proxy that says where proxies live.
    path = f"{celery_task.__class__.__module__}.{getattr(run, '__name__', '')}"
    try:
        found = _walk(path)
    except (MethodNotFound, MethodNotAllowed):
        return str(celery_task.name)
    same = isinstance(found, CeleryTask) and found.name == celery_task.name
    return path if same else str(celery_task.name)


def resolve(method: str) -> Callable[..., Any]:
    """Return the callable behind a dotted path, if it may run.

    Raises MethodNotFound when nothing stands there in this process, MethodNotCallable when
    something else does, and MethodNotAllowed when it may not run.
    """
    return _resolve(method, tuple(conf.ALLOWED_MODULES))


def own_path(method: str) -> str:
    """Return the path under which its own module has what ``method`` leads to.

    A name that another module imported is no other task type, unless it was declared.
    """
    return (
        method if method in declarations else _own_path(method, tuple(conf.ALLOWED_MODULES))
    )


@lru_cache(maxsize=4096)
def _own_path(method: str, allowed: tuple[str, ...]) -> str:
    target = _resolve(method, allowed)
    try:
        own = path_of(target)
        return own if _resolve(own, allowed) == target else method
    except (MethodNotAllowed, MethodNotCallable, MethodNotFound):
        return method


@lru_cache(maxsize=4096)
def _resolve(method: str, allowed: tuple[str, ...]) -> Callable[..., Any]:
    try:
        target = _walk(method)
    except (MethodNotFound, MethodNotAllowed):
        registered = current_app.tasks.get(method)
        if registered is None or method.startswith(("celery.", "taskcontrol.")):
            raise
        return registered  # type: ignore[no-any-return]
    if not callable(target):
        raise MethodNotCallable(method, f"it is a {type(target).__name__}, not callable.")
    refuse_unrunnable(method, target)
    if method not in declarations and not _lies_in_allowed_code(method, target, allowed):
        raise MethodNotAllowed(method)
    return target  # type: ignore[no-any-return]


def refuse_unrunnable(method: str, target: Any) -> None:
    """Raise MethodNotCallable for a function that does nothing when it is called."""
    if _only_makes_something(getattr(target, "run", target)):
        raise MethodNotCallable(
            method,
            "calling it only makes a coroutine or a generator, whose body would never "
            "begin. Enqueue a plain function that runs it, with asgiref.sync.async_to_sync "
            "for instance.",
        )


def _only_makes_something(function: Any) -> bool:
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )


def _walk(path: str) -> Any:
    """Import the module part of ``path`` and follow the attributes of the rest."""
    parts = path.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise MethodNotFound(path, "it is not a dotted path of a module and a function")
    if any(part.startswith("__") for part in parts):
        raise MethodNotAllowed(path)
    if not _may_be_imported(path):
        raise MethodNotAllowed(path)
    module, rest = _import_longest(path, parts)
    found: Any = module
    for name in rest:
        found = getattr(found, name, None)
        if found is None:
            raise MethodNotFound(path, f"{module.__name__!r} has no {'.'.join(rest)!r}")
        if isinstance(found, ModuleType):
            raise MethodNotAllowed(path)
    return found


def _import_longest(path: str, parts: list[str]) -> tuple[ModuleType, list[str]]:
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            return import_module(name), parts[cut:]
        except ModuleNotFoundError as error:
            # A missing module inside the user's module is another fault than a wrong path.
            if error.name and not (name == error.name or name.startswith(f"{error.name}.")):
                raise MethodNotFound(path, f"importing {name!r} failed: {error}") from error
        except (SoftTimeLimitExceeded, MemoryError):
            raise  # of the task, whose time or memory is over: the method is no worse for it
        except Exception as error:
            why = f"importing {name!r} failed: {type(error).__name__}: {error}"
            raise MethodNotFound(path, why) from error
    raise MethodNotFound(path, f"there is no module {parts[0]!r}")


def _may_be_imported(path: str) -> bool:
    """Importing runs code, so only allowed or already imported packages are looked at."""
    return path in declarations or _is_allowed_module(path, tuple(conf.ALLOWED_MODULES))


def _lies_in_allowed_code(method: str, target: Any, allowed: tuple[str, ...]) -> bool:
    """A name that an allowed module merely imported is not code of that module."""
    if isinstance(target, CeleryTask):
        return True
    home = getattr(target, "__module__", None) or ""
    return _is_allowed_module(method, allowed) and _is_allowed_module(f"{home}.x", allowed)


def _is_allowed_module(path: str, allowed: tuple[str, ...]) -> bool:
    apps_and_modules = {*(config.name for config in apps.get_app_configs()), *allowed}
    return any(path.startswith(f"{name}.") for name in apps_and_modules if name)


def check_arguments(method: str, target: Callable[..., Any], given: dict[str, Any]) -> None:
    """Raise InvalidCall unless ``given`` fits the signature of ``target``."""
    try:
        signature = _signature(target)
    except (TypeError, ValueError):
        return  # built in C: nothing to compare with
    try:
        signature.bind(**given)
    except TypeError as error:
        raise InvalidCall(
            f"{method}{signature} cannot be called with the arguments "
            f"{', '.join(sorted(map(str, given))) or '(none)'}: {error}."
        ) from None


def parameters_of(target: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters of ``target``."""
    try:
        return frozenset(_signature(target).parameters)
    except (TypeError, ValueError):
        return frozenset()


@lru_cache(maxsize=4096)
def _signature(target: Callable[..., Any]) -> inspect.Signature:
    if isinstance(target, CeleryTask):
        # ``run`` of a bound task is a method already: it shows no ``self``.
        return inspect.signature(target.run)
    return inspect.signature(target)
