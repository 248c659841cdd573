"""Counts rows no further than a page needs to know."""

from __future__ import annotations

from typing import Any

#: Rows are counted up to here; a full count of a big table takes longer than its page.
MOST_COUNTED = 10_000


class Capped(int):
    """A count that was not taken to its end: counts as its number, reads as "10,000+"."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


def capped_count(rows: Any) -> int:
    """Return how many ``rows`` there are, counted up to ``MOST_COUNTED``."""
    found = rows.order_by().values("pk")[: MOST_COUNTED + 1].count()
    return Capped(MOST_COUNTED) if found > MOST_COUNTED else int(found)
