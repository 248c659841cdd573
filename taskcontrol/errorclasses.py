"""Exception classes by their dotted paths: what ``retry_on`` and ``discard_on`` hold."""

from __future__ import annotations

import builtins
import sys
from importlib import import_module
from typing import Any


def paths_of(value: Any) -> list[str]:
    """Return the dotted paths of one or several exception classes, given as such or as paths.

    A class is named by where it is defined, so that an alias means the same class. Raises a
    ValueError that says which is none.
    """
    given = value if isinstance(value, list | tuple | set | frozenset) else [value]
    return sorted({_path_of(_class_of(one)) for one in given})


def matches(error: BaseException, paths: list[str]) -> bool:
    """Return whether ``error`` is of one of the classes, or of one derived from it.

    Goes by names alone: nothing is imported, since what was raised is there already.
    """
    return any(_path_of(one) in paths for one in type(error).__mro__)


def find(path: str) -> type[BaseException] | None:
    """Return the exception class behind ``path`` if its module is loaded here, else None."""
    found = _attribute_of_loaded(path if "." in path else f"builtins.{path}")
    return found if _is_exception(found) else None


def _path_of(one: type) -> str:
    return f"{one.__module__}.{one.__qualname__}"


def _class_of(one: Any) -> type[BaseException]:
    found = _look_up(one) if isinstance(one, str) else one
    if not _is_exception(found):
        raise ValueError(
            f"exception classes or their dotted paths, one or a list, and {one!r} is none"
        )
    return found  # type: ignore[no-any-return]


def _is_exception(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseException)


def _look_up(path: str) -> Any:
    """Import the module of the class if need be; only code and chosen persons come here."""
    module, _, name = path.strip().rpartition(".")
    if not module:
        return getattr(builtins, name, None)
    if module not in sys.modules and _attribute_of_loaded(path.strip()) is None:
        try:
            import_module(module)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"exception classes or their dotted paths, and the module of {path!r} cannot "
                f"be imported here ({why})"
            ) from error
    return _attribute_of_loaded(path.strip())


def _attribute_of_loaded(path: str) -> Any:
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:cut]))
        if found is None:
            continue
        for name in parts[cut:]:
            found = getattr(found, name, None)
        return found
    return None
