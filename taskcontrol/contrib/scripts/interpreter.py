"""Runs the text of a script in a Python that has no imports, no files and no inner life."""

from __future__ import annotations

import ast
import builtins
import copy
import datetime as dt
import operator
import types
import warnings
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from RestrictedPython.compile import compile_restricted_function
from RestrictedPython.Guards import (
    full_write_guard,
    guarded_iter_unpack_sequence,
    guarded_unpack_sequence,
)
from RestrictedPython.transformer import RestrictingNodeTransformer

from ...exceptions import InvalidCall

#: The types whose attributes and items a script may read: plain data, exactly of these types.
PLAIN = frozenset(
    {
        *(bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset),
        *(dt.date, dt.datetime, dt.time, dt.timedelta, Decimal, UUID),
    }
)
#: They read attributes of what they are given, by names in a text.
FORMATTERS = frozenset({"format", "format_map"})

#: What a script may use of Python's own names.
NAMES = [
    "abs",
    "all",
    "any",
    "bool",
    "bytes",
    "chr",
    "complex",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "frozenset",
    "hex",
    "int",
    "isinstance",
    "len",
    "list",
    "map",
    "max",
    "min",
    "oct",
    "ord",
    "pow",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "slice",
    "sorted",
    "str",
    "sum",
    "tuple",
    "zip",
    "ArithmeticError",
    "AttributeError",
    "Exception",
    "IndexError",
    "KeyError",
    "LookupError",
    "NameError",
    "OverflowError",
    "RuntimeError",
    "TypeError",
    "ValueError",
    "ZeroDivisionError",
]

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
    "<<=": operator.ilshift,
    ">>=": operator.irshift,
    "|=": operator.ior,
    "^=": operator.ixor,
    "&=": operator.iand,
}


class Policy(RestrictingNodeTransformer):
    """What may stand in a script: less than RestrictedPython lets in."""

    def _refuse(self, node: Any) -> Any:
        self.error(node, f"{REFUSED[type(node)]} cannot stand in a script.")

    visit_Import = visit_ImportFrom = visit_ClassDef = visit_Global = visit_With = _refuse  # noqa: N815
    # A script with one of these would be a generator, whose body nobody runs.
    visit_Yield = visit_YieldFrom = visit_Await = _refuse  # noqa: N815

    def visit_comprehension(self, node: Any) -> Any:
        """Let nothing be awaited."""
        if node.is_async:
            self.error(node, "async cannot stand in a script.")
        return super().visit_comprehension(node)

    def visit_Name(self, node: Any) -> Any:  # noqa: N802
        """Keep the name that RestrictedPython takes for what was printed."""
        if node.id == "printed":
            self.error(node, "printed is a reserved name; log() and print() write the log.")
        return super().visit_Name(node)

    def visit_AugAssign(self, node: Any) -> Any:  # noqa: N802
        """Let items be counted up: ``seen[key] += 1`` is ``seen[key] = seen[key] + 1``."""
        if isinstance(node.op, ast.MatMult):
            self.error(node, "@= cannot stand in a script.")
        if not isinstance(node.target, ast.Subscript):
            return super().visit_AugAssign(node)
        if any(isinstance(part, ast.Call) for part in ast.walk(node.target)):
            # It would be called twice.
            self.error(node, "Give a name to what is called between [ and ] first.")
        item = copy.deepcopy(node.target)
        item.ctx = ast.Load()
        plain = ast.Assign([node.target], ast.BinOp(item, node.op, node.value))
        ast.fix_missing_locations(ast.copy_location(plain, node))
        return self.visit(plain)

    def visit_ExceptHandler(self, node: Any) -> Any:  # noqa: N802
        """Let nobody catch what ends the process by accident."""
        if node.type is None:
            self.error(node, "except needs the name of an exception.")
        return super().visit_ExceptHandler(node)


REFUSED: dict[type, str] = {
    ast.Import: "import",
    ast.ImportFrom: "import",
    ast.ClassDef: "class",
    ast.Global: "global",
    ast.With: "with",
    ast.Yield: "yield",
    ast.YieldFrom: "yield",
    ast.Await: "await",
}


def faults_in(source: str) -> list[str]:
    """Return why ``source`` cannot run as a script, line by line; empty when it can."""
    return _compiled(source)[1]


def run(source: str, name: str, words: Mapping[str, Any], args: dict[str, Any]) -> Any:
    """Run a script with ``args`` and return what it returns.

    ``words`` are what it may call beside Python's own names. Raises InvalidCall for a text
    that cannot run, and whatever the script raises.
    """
    code, faults = _compiled(source)
    if code is None:
        raise InvalidCall(f"The script {name!r} cannot run: {' '.join(faults)}")
    space = {"__builtins__": _builtins(), **GUARDS, **words}
    exec(code, space)  # noqa: S102 - what is run was compiled by the policy above
    return space["script"](args)


@lru_cache(maxsize=256)
def _compiled(source: str) -> tuple[types.CodeType | None, list[str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(source)
            if not body.body:
                return None, ["There is nothing in it."]
            result = compile_restricted_function(
                "args", body, "script", filename="<script>", policy=Policy
            )
    except SyntaxError as error:
        return None, [f"Line {error.lineno or 1}: {error.msg}."]
    except (MemoryError, RecursionError, ValueError) as error:
        return None, [f"It cannot be read: {type(error).__name__}: {error}."]
    return result.code, list(result.errors)


def _builtins() -> dict[str, Any]:
    return {name: getattr(builtins, name) for name in NAMES}


def read_attribute(thing: Any, name: str) -> Any:
    """Return an attribute of plain data; everything else has none for a script."""
    if type(thing) not in PLAIN or name.startswith("_") or name in FORMATTERS:
        raise AttributeError(f"A script cannot read {name!r} of a {type(thing).__name__}.")
    return getattr(thing, name)


def read_item(thing: Any, index: Any) -> Any:
    """Return an item of plain data."""
    if type(thing) not in PLAIN:
        raise TypeError(f"A script cannot read items of a {type(thing).__name__}.")
    return thing[index]


def change_in_place(sign: str, left: Any, right: Any) -> Any:
    """Return what ``left += right`` gives, or another sign of that kind."""
    return OPERATORS[sign](left, right)


def apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call with what ``*`` and ``**`` stand for."""
    return function(*args, **kwargs)


class Printer:
    """What ``print`` becomes in a script."""

    def __init__(self, _getattr: Any = None) -> None:
        """Stand for one function of the script."""

    def _call_print(self, *things: Any, sep: str = " ", end: str = "\n") -> None:
        print(*things, sep=sep, end=end)  # noqa: T201 - into the debug log of the task


#: The names by which RestrictedPython calls what guards a script.
GUARDS: dict[str, Any] = {
    "_apply_": apply,
    "_getattr_": read_attribute,
    "_getitem_": read_item,
    "_getiter_": iter,
    "_inplacevar_": change_in_place,
    "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
    "_print_": Printer,
    "_unpack_sequence_": guarded_unpack_sequence,
    "_write_": full_write_guard,
}
