"""How a mutant is written down: in one line for the guard, and one for its tests."""

from __future__ import annotations

from tests.model.mutating import Edit, Mutant

POSTGRESQL = "postgresql"


def mutant(
    name: str,
    file: str,
    *edits: tuple[str, str, str] | tuple[str, str, str, str],
    by: str | tuple[str, ...],
    on: str = "sqlite",
    hangs: bool = False,
) -> Mutant:
    """``by``: "room: what the test says", or a path below ``tests/``.

    An edit is function, text and what takes its place, and the file if it is another one.
    ``hangs``: without the guard something waits for ever, and that it does is the sign.
    """
    tests = (by,) if isinstance(by, str) else by
    paths = tuple(_path(one) for one in tests)
    return Mutant(name, file, tuple(Edit(*one) for one in edits), paths, on, hangs)


def _path(test: str) -> str:
    room, colon, words = test.partition(": ")
    return f"test_{room}.py::test_{words.replace(' ', '_')}" if colon else test
