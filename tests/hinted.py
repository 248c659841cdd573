"""A body with a parameter of every kind that the form of admin knows."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from elsewhere import Order  # type: ignore[import-not-found] # nobody has it


class Color(enum.Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


def every_kind(
    text: str,
    number: int,
    share: float,
    price: Decimal,
    day: dt.date,
    moment: dt.datetime,
    key: UUID,
    size: Literal["S", "M", 3],
    color: Color,
    names: list[str],
    options: dict[str, Any],
    wish: Order,
    flag: bool,
    perhaps: int | None,
    queue: str = "mine",
    most: int = 5,
    tags: set[int] = frozenset(),  # type: ignore[assignment]
    bare=1.5,
) -> dict[str, Any]:
    """Take one of each.

    And no more.
    """
    return locals()


def anything(**values: Any) -> None:
    """Take whatever is given."""


def nothing_much(limit: int = 3, note: str | None = "n", *, fast: bool = True) -> None:
    """Take what has defaults."""
