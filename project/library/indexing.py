"""Finds the source files of the running Python and measures one; knows no database."""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: What is indexed: the running Python's standard library or a folder that somebody names
#: instead, and a few files of our own.
ROOTS = {
    "stdlib": Path(os.environ.get("LIBRARY_DIR") or sysconfig.get_path("stdlib")),
    "samples": Path(__file__).parent / "samples",
}
#: Folders below the standard library that are not part of it.
FOREIGN = {"__pycache__", "dist-packages", "site-packages"}


class BrokenSource(Exception):
    """A file that Python cannot parse."""

    def __init__(self, path: str, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason}")


class OutsideLibrary(Exception):
    """A path that leads to no source file of the library."""

    def __init__(self, root: str, path: str) -> None:
        super().__init__(f"{root}/{path} is not a source file below {' or '.join(ROOTS)}.")


@dataclass(frozen=True)
class Counts:
    """What is in one source file."""

    lines: int
    functions: int
    classes: int
    imports: list[str]


def find_sources() -> Iterator[tuple[str, str]]:
    """Yield root and path of every source file, each path relative to its root."""
    for root, folder in ROOTS.items():
        for file in sorted(folder.rglob("*.py")):
            path = file.relative_to(folder)
            if FOREIGN.isdisjoint(path.parts) and lies_below(folder, file):
                yield root, path.as_posix()


def locate(root: str, path: str) -> Path:
    """Return the file at ``path`` below ``root``; a path that leads elsewhere is refused."""
    folder = ROOTS.get(root)
    if folder is None or not lies_below(folder, folder / path):
        raise OutsideLibrary(root, path)
    return folder / path


def lies_below(folder: Path, file: Path) -> bool:
    """Return whether ``file`` is a source file below ``folder``, dots and links followed."""
    return file.suffix == ".py" and file.resolve().is_relative_to(folder.resolve())


def measure(source: bytes, path: str = "<source>") -> Counts:
    """Count what is in ``source``, or raise BrokenSource with the line and the reason."""
    nodes = list(ast.walk(parse(source, path)))
    return Counts(
        lines=len(source.splitlines()),
        functions=sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in nodes),
        classes=sum(isinstance(n, ast.ClassDef) for n in nodes),
        imports=sorted(set(imported_modules(nodes))),
    )


def parse(source: bytes, path: str) -> ast.Module:
    """Return the syntax tree of ``source``, decoded as its first two lines declare."""
    if b"\0" in source:
        line = source[: source.index(b"\0")].count(b"\n") + 1
        raise BrokenSource(path, line, "the file holds a NUL byte")
    try:
        # What Python only warns of is no failure, not even under -W error.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(source, filename=path)
    except SyntaxError as error:
        # Python names no line for a wrong encoding, which is declared at the top.
        raise BrokenSource(path, error.lineno or 1, error.msg) from error


def names_in(source: bytes, path: str = "<source>") -> Iterator[str]:
    """Yield each use of a name in ``source``, or raise BrokenSource."""
    for node in ast.walk(parse(source, path)):
        if isinstance(node, ast.Name):
            yield node.id


def imported_modules(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules that ``nodes`` import, a relative one with its dots."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
