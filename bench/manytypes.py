"""A thousand types of task with one body: ``t0`` to ``t999``."""

from __future__ import annotations

from collections.abc import Callable

from bench import bodies

TYPES = 1000
#: Every twentieth has a limit.
LIMITED = range(0, TYPES, 20)
LIMIT = 2


def _make(kind: int) -> Callable[[], None]:
    def body() -> None:
        bodies.spell(kind)

    body.__name__ = body.__qualname__ = f"t{kind}"
    return body


for _kind in range(TYPES):
    globals()[f"t{_kind}"] = _make(_kind)
